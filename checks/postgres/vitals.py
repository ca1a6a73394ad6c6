"""The vitals: one statement, one round trip, no grant needed, PostgreSQL 13 to 18."""

from __future__ import annotations

from typing import Final

import msgspec

# Rows other roles own are masked without pg_monitor: `hidden` counts them, and the sums are then unknown.
SQL: Final = """
WITH seen AS (
  SELECT usename, state, backend_type, wait_event_type, wait_event,
         extract(epoch FROM clock_timestamp() - xact_start) AS transaction_s,
         extract(epoch FROM clock_timestamp() - query_start) AS query_s,
         extract(epoch FROM clock_timestamp() - state_change) AS state_s
  FROM pg_stat_activity WHERE pid <> pg_backend_pid()
), clients AS (
  SELECT * FROM seen WHERE backend_type = 'client backend'
)
SELECT json_build_object(
  'version', current_setting('server_version_num')::int,
  'in_recovery', pg_is_in_recovery(),
  'started_s', extract(epoch FROM pg_postmaster_start_time()),
  'now_s', extract(epoch FROM clock_timestamp()),
  'database', current_database(),
  'max_connections', current_setting('max_connections')::int,
  'reserved', current_setting('superuser_reserved_connections')::int
            + coalesce(current_setting('reserved_connections', true), '0')::int,
  'monitor', pg_has_role('pg_monitor', 'usage'),
  'encrypted', (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()),
  'set_read_only', (SELECT reset_val = 'on' FROM pg_settings WHERE name = 'default_transaction_read_only'),
  'read_only_databases', coalesce((
    SELECT json_agg(DISTINCT d.datname)
    FROM pg_db_role_setting s
    JOIN pg_database d ON (s.setdatabase = 0 OR d.oid = s.setdatabase) AND NOT d.datistemplate,
         unnest(s.setconfig) AS c
    WHERE s.setrole = 0 AND c ~* '^default_transaction_read_only=(on|true|yes|1)$'), '[]'),
  'app_databases', (
    SELECT coalesce(json_agg(datname), '[]') FROM pg_database
    WHERE NOT datistemplate AND datallowconn AND datname NOT IN ('postgres', 'repmgr')),
  'backends', (SELECT sum(numbackends) FROM pg_stat_database),
  'clients', (SELECT count(*) + 1 FROM clients),
  'hidden', (SELECT count(*) FROM seen WHERE backend_type IS NULL),
  'by_state', coalesce((SELECT json_object_agg(state, n) FROM (
    SELECT coalesce(state, 'none') AS state, count(*) AS n FROM clients GROUP BY 1) AS g), '{}'),
  'top_roles', coalesce((SELECT json_agg(json_build_array(usename, n)) FROM (
    SELECT usename, count(*) AS n FROM clients GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 3) AS g), '[]'),
  'idle_in_transaction_s', (SELECT max(state_s) FROM clients WHERE state LIKE 'idle in transaction%'),
  'longest_query_s', (SELECT max(query_s) FROM clients WHERE state = 'active'),
  'longest_transaction_s', (SELECT max(transaction_s) FROM clients),
  'lock_waiters', (SELECT count(*) FROM clients WHERE wait_event_type = 'Lock'),
  'lock_wait_s', (SELECT max(extract(epoch FROM clock_timestamp()
      - coalesce((to_jsonb(l) ->> 'waitstart')::timestamptz, a.query_start)))
    FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted),
  'sync_waiters', (SELECT count(*) FROM clients WHERE wait_event = 'SyncRep'),
  'sync_wait_s', (SELECT max(query_s) FROM clients WHERE wait_event = 'SyncRep'),
  'oldest_snapshot_s', (SELECT max(extract(epoch FROM clock_timestamp() - xact_start))
    FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND backend_type = 'client backend'
      AND pid <> pg_backend_pid())
)::text
"""


class Vitals(msgspec.Struct, frozen=True, kw_only=True):
    """What the statement answered. None: there was nothing to measure, or it may not be seen."""

    version: int
    in_recovery: bool
    started_s: float
    now_s: float
    database: str
    max_connections: int
    reserved: int
    monitor: bool
    encrypted: bool | None
    set_read_only: bool
    read_only_databases: tuple[str, ...]
    app_databases: tuple[str, ...]
    backends: int
    clients: int
    hidden: int
    by_state: dict[str, int]
    top_roles: tuple[tuple[str | None, int], ...]
    idle_in_transaction_s: float | None
    longest_query_s: float | None
    longest_transaction_s: float | None
    lock_waiters: int
    lock_wait_s: float | None
    sync_waiters: int
    sync_wait_s: float | None
    oldest_snapshot_s: float | None

    @property
    def used(self) -> int:
        """Connections taken. Without pg_monitor clients cannot be told from other backends."""
        return self.backends if self.hidden else self.clients

    @property
    def usable(self) -> int:
        """Connections an ordinary role may take."""
        return max(self.max_connections - self.reserved, 1)

    @property
    def read_only(self) -> bool:
        """Whether writes of the applications are refused by a setting.

        Fly's disk guard sets it on every database but `postgres` and `repmgr`; held sessions do not notice.
        """
        if self.in_recovery:
            return False
        if self.database in self.read_only_databases or self.set_read_only:
            return True
        return bool(self.app_databases) and set(self.app_databases) <= set(self.read_only_databases)


_DECODER: Final = msgspec.json.Decoder(Vitals)


def parse(text: str) -> Vitals:
    """Raises msgspec.ValidationError when the answer has another shape."""
    return _DECODER.decode(text)
