"""The least-privilege role the agent should log in as, as SQL to run once per server."""

from __future__ import annotations

from typing import Final

_OLDEST: Final = 13
_RESERVING: Final = 16

_SQL: Final = """\
-- The role Gaia logs in as: it may see how the server is, and change nothing.
-- Run with psql as a superuser, once per server; running it again changes nothing but the password.
-- Then put the role into the URL, and the password into the secret it comes from:
--   postgresql://{role}:<password>@<host>:5432/<the application's database>
-- and let it in, in pg_hba.conf:  hostssl all {role} <the agent's network> scram-sha-256
\\set ON_ERROR_STOP on
SELECT 'CREATE ROLE {role}' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') \\gexec
-- Four connections at most, of which the agent uses two: it can never be what fills the server.
ALTER ROLE {role} LOGIN CONNECTION LIMIT 4;
-- Who waits for whom, replication, settings, WAL: without it most rows are masked.
GRANT pg_monitor TO {role};
-- A slow or stuck server must not be made slower by being looked at.
ALTER ROLE {role} SET statement_timeout = '3s';
ALTER ROLE {role} SET lock_timeout = '500ms';
ALTER ROLE {role} SET idle_in_transaction_session_timeout = '10s';
-- What it asks is the same every few seconds: not worth a line in the log.
ALTER ROLE {role} SET log_min_duration_statement = -1;
"""
_RESERVED: Final = """\
-- With reserved_connections = 2 in the server's configuration the agent still gets in, and names the cause,
-- when the applications have taken every connection.
GRANT pg_use_reserved_connections TO {role};
"""
_ASKED: Final = """\
-- Asked for without showing it and sent as a hash: the password itself stands in no log.
\\password {role}
"""
_OPTIONAL: Final = """\
-- Optional, in each application's database: which statements cost most (needs
-- shared_preload_libraries = 'pg_stat_statements' and a restart), and how full sequences are.
-- CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
-- GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {role};
-- ALTER DEFAULT PRIVILEGES FOR ROLE <owner> IN SCHEMA public GRANT SELECT ON SEQUENCES TO {role};
-- Where CONNECT was taken from PUBLIC:
-- GRANT CONNECT ON DATABASE <the application's database> TO {role};
"""


def role_sql(role: str = "gaia_monitor", *, major: int = 18, password: bool = True) -> str:
    """The statements for a server of this major version; `password`: psql asks for one at the end.

    Raises ValueError for a name that needs quoting and for a version that is not supported.
    """
    if not role.isidentifier() or role != role.lower() or not role.isascii():
        raise ValueError(f'"{role}" is not a plain lower-case role name')
    if major < _OLDEST:
        raise ValueError(f"PostgreSQL {major} is not supported: {_OLDEST} is the oldest")
    parts = (
        _SQL,
        _RESERVED if major >= _RESERVING else "",
        _ASKED if password else "",
        _OPTIONAL,
    )
    return "\n".join(part for part in parts if part).format(role=role)
