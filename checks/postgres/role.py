"""The least-privilege role the agent should log in as, as SQL to run once per server."""

from __future__ import annotations

from typing import Final

_SQL: Final = """\
-- The role Gaia logs in as: it may see how the server is, and change nothing.
-- Run as a superuser, with psql, once per server; then put the role into the URL:
--   postgresql://{role}:<password>@<host>:5432/<the application's database>
\\prompt 'password for {role}: ' pw
CREATE ROLE {role} LOGIN PASSWORD :'pw' CONNECTION LIMIT 4;
-- Who waits for whom, replication, settings, WAL: without it most rows are masked.
GRANT pg_monitor TO {role};
-- A slow or stuck server must not be made slower by being looked at.
ALTER ROLE {role} SET statement_timeout = '3s';
ALTER ROLE {role} SET lock_timeout = '500ms';
ALTER ROLE {role} SET idle_in_transaction_session_timeout = '10s';
ALTER ROLE {role} SET log_min_duration_statement = -1;
"""
_RESERVED: Final = """\
-- PostgreSQL 16 and later: with reserved_connections = 2 in the server's configuration the agent still
-- gets in, and names the cause, when the applications have taken every connection.
GRANT pg_use_reserved_connections TO {role};
"""
_OPTIONAL: Final = """\
-- Optional, in the application's database: which statements cost most (needs
-- shared_preload_libraries = 'pg_stat_statements' and a restart), and how full sequences are.
-- CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
-- GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {role};
"""


def role_sql(role: str = "gaia_monitor", *, major: int = 18) -> str:
    """The statements for a server of this major version. Raises ValueError for a name that needs quoting."""
    if not role.isidentifier() or role != role.lower():
        raise ValueError(f'"{role}" is not a plain lower-case role name')
    parts = (_SQL, _RESERVED if major >= 16 else "", _OPTIONAL)
    return "\n".join(part for part in parts if part).format(role=role)
