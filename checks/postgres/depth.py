"""The deeper statements: one for a primary, one for a standby; no grant needed, PostgreSQL 13 to 18.

Columns that came later are read through to_jsonb, which answers null where they are missing.
"""

from __future__ import annotations

from typing import Final

import msgspec

_DATABASES: Final = """
  'commits', d.commits, 'rollbacks', d.rollbacks, 'blocks_read', d.blocks_read, 'blocks_hit', d.blocks_hit,
  'deadlocks', d.deadlocks, 'checksum_failures', d.checksum_failures, 'temp_bytes', d.temp_bytes,
  'xid_age', (SELECT max(age(datfrozenxid)) FROM pg_database),
  'mxid_age', (SELECT max(mxid_age(datminmxid)) FROM pg_database),
  'checkpoints_timed', c.timed, 'checkpoints_requested', c.requested,
"""
_FROM: Final = """
FROM (SELECT sum(xact_commit) AS commits, sum(xact_rollback) AS rollbacks, sum(blks_read) AS blocks_read,
             sum(blks_hit) AS blocks_hit, sum(deadlocks) AS deadlocks,
             sum(coalesce(checksum_failures, 0)) AS checksum_failures, sum(temp_bytes) AS temp_bytes
      FROM pg_stat_database) AS d,
     (SELECT {checkpoints}) AS c
"""
# 17 moved the counters from pg_stat_bgwriter to a view of their own.
_CHECKPOINTS_17: Final = "num_timed AS timed, num_requested AS requested FROM pg_stat_checkpointer"
_CHECKPOINTS: Final = "checkpoints_timed AS timed, checkpoints_req AS requested FROM pg_stat_bgwriter"

_PRIMARY: Final = (
    "SELECT json_build_object("  # noqa: S608 - constants only.
    + _DATABASES
    + """
  'standbys', coalesce((SELECT json_agg(json_build_object(
      'name', r.application_name, 'address', host(r.client_addr), 'state', r.state, 'sync', r.sync_state,
      'behind_bytes', pg_wal_lsn_diff(pg_current_wal_lsn(), r.replay_lsn),
      'reply_age_s', extract(epoch FROM clock_timestamp() - r.reply_time),
      'replay_lag_s', extract(epoch FROM r.replay_lag)))
    FROM pg_stat_replication r WHERE r.application_name NOT LIKE 'pg_basebackup%'), '[]'),
  'slots', coalesce((SELECT json_agg(json_build_object(
      'name', s.slot_name, 'active', s.active, 'wal_status', s.wal_status,
      'retained_bytes', pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn),
      'inactive_s', extract(epoch FROM clock_timestamp()
                            - (to_jsonb(s) ->> 'inactive_since')::timestamptz)))
    FROM pg_replication_slots s), '[]'),
  'archiving', current_setting('archive_mode') <> 'off',
  'archived', a.archived_count, 'archive_failures', a.failed_count,
  'archive_failing', a.last_failed_time > coalesce(a.last_archived_time, '-infinity'),
  'archive_failing_s', CASE WHEN a.last_failed_time > coalesce(a.last_archived_time, '-infinity')
      THEN extract(epoch FROM clock_timestamp() - coalesce(a.last_archived_time, a.stats_reset)) END,
  'prepared', (SELECT count(*) FROM pg_prepared_xacts),
  'prepared_s', (SELECT extract(epoch FROM clock_timestamp() - min(prepared)) FROM pg_prepared_xacts),
  'wal_bytes', pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')
)::text"""
    + _FROM
    + ", pg_stat_archiver AS a"
)
_STANDBY: Final = (
    "SELECT json_build_object("  # noqa: S608 - constants only.
    + _DATABASES
    + """
  'receivers', (SELECT count(*) FROM pg_stat_wal_receiver),
  'message_age_s', (SELECT extract(epoch FROM clock_timestamp() - last_msg_receipt_time)
                    FROM pg_stat_wal_receiver),
  'apply_bytes', greatest(pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), 0),
  'paused', CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() END,
  'replayed_age_s', extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())
)::text"""
    + _FROM
)
IDENTITY: Final = """
SELECT json_build_object('system', (SELECT system_identifier FROM pg_control_system())::text,
                         'timeline', (SELECT timeline_id FROM pg_control_checkpoint()))::text"""
SEQUENCES: Final = """
SELECT json_build_object(
  'hidden', count(*) FILTER (WHERE last_value IS NULL
              AND NOT has_sequence_privilege(format('%I.%I', schemaname, sequencename), 'SELECT,USAGE')),
  'fullest', max(used), 'name', (array_agg(format('%I.%I', schemaname, sequencename)
                                 ORDER BY used DESC NULLS LAST))[1])::text
FROM (SELECT *, last_value::float8 / max_value AS used FROM pg_sequences
      WHERE NOT cycle AND increment_by > 0) AS s"""
ARCHIVE_READY: Final = "SELECT count(*)::text FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'"
CANARY: Final = "SELECT pg_logical_emit_message(true, 'gaia.canary', '')::text"


class Standby(msgspec.Struct, frozen=True, kw_only=True):
    """One row of pg_stat_replication; what the role may not see is None."""

    name: str | None
    address: str | None
    state: str | None
    sync: str | None
    behind_bytes: float | None
    reply_age_s: float | None
    replay_lag_s: float | None


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    active: bool
    wal_status: str | None
    retained_bytes: float | None
    inactive_s: float | None


class Depth(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of either statement; the other role's fields keep their defaults."""

    commits: int
    rollbacks: int
    blocks_read: int
    blocks_hit: int
    deadlocks: int
    checksum_failures: int
    temp_bytes: int
    xid_age: int
    mxid_age: int
    checkpoints_timed: int
    checkpoints_requested: int
    standbys: tuple[Standby, ...] = ()
    slots: tuple[Slot, ...] = ()
    archiving: bool = False
    archived: int = 0
    archive_failures: int = 0
    archive_failing: bool | None = None
    archive_failing_s: float | None = None
    prepared: int = 0
    prepared_s: float | None = None
    wal_bytes: float | None = None
    receivers: int | None = None
    message_age_s: float | None = None
    apply_bytes: float | None = None
    paused: bool | None = None
    replayed_age_s: float | None = None


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    system: str
    timeline: int


class Sequences(msgspec.Struct, frozen=True, kw_only=True):
    """`hidden`: how many this role may not read, so how many might be full unseen."""

    hidden: int
    fullest: float | None
    name: str | None


def sql(*, version: int, in_recovery: bool) -> str:
    """The statement for a server of this version and role."""
    checkpoints = _CHECKPOINTS_17 if version >= 170000 else _CHECKPOINTS
    return (_STANDBY if in_recovery else _PRIMARY).replace("{checkpoints}", checkpoints)
