"""Every series the `postgres` check may emit."""

from __future__ import annotations

from typing import Final

from checks.catalog import MeasureInfo


def _gauge(name: str, text: str, *labels: str) -> MeasureInfo:
    return MeasureInfo(name=f"gaia_postgres_{name}", type="gauge", help=text, labels=labels)


def _counter(name: str, text: str, *labels: str) -> MeasureInfo:
    return MeasureInfo(name=f"gaia_postgres_{name}_total", type="counter", help=text, labels=labels)


MEASURES: Final = (
    _gauge("in_recovery", "1 when the server is a standby."),
    _gauge("read_only", "1 when the applications' writes are refused by a setting."),
    _gauge("start_time_seconds", "When the server started, Unix seconds."),
    _gauge("connections", "Client connections taken."),
    _gauge("connections_limit", "Connections an ordinary role may take."),
    _gauge("sessions", "Client sessions by state.", "state"),
    _gauge("idle_in_transaction_seconds", "Age of the oldest session idle in a transaction."),
    _gauge("longest_query_seconds", "Age of the longest running query."),
    _gauge("longest_transaction_seconds", "Age of the longest open transaction."),
    _gauge("lock_waiters", "Sessions waiting for a lock."),
    _gauge("lock_wait_seconds", "Longest wait for a lock."),
    _gauge("sync_waiters", "Commits waiting for a synchronous standby."),
    _gauge("oldest_snapshot_seconds", "Age of the oldest snapshot, which vacuum cannot pass."),
    _gauge("clock_skew_seconds", "The server's clock minus ours, as far as the round trip lets it be known."),
    _counter("commits", "Transactions committed."),
    _counter("rollbacks", "Transactions rolled back."),
    _counter("blocks_read", "Blocks read from disk or the system's cache."),
    _counter("blocks_hit", "Blocks found in the buffer cache."),
    _counter("deadlocks", "Deadlocks."),
    _counter("checksum_failures", "Data checksum failures."),
    _counter("temp_bytes", "Bytes written to temporary files."),
    _gauge("xid_used_ratio", "Share of transaction ids used before writes stop."),
    _counter("checkpoints_timed", "Checkpoints on schedule."),
    _counter("checkpoints_requested", "Checkpoints forced."),
    _counter("wal_bytes", "WAL written."),
    _gauge("standbys", "Standbys connected to this primary."),
    _gauge("standby_behind_bytes", "WAL a standby has not replayed.", "standby"),
    _gauge("standby_reply_age_seconds", "Age of a standby's last report.", "standby"),
    _gauge("slot_retained_bytes", "WAL kept for a replication slot.", "slot"),
    _gauge("prepared_transactions", "Prepared transactions."),
    _counter("archived", "WAL files archived."),
    _counter("archive_failures", "WAL files that could not be archived."),
    _gauge("archive_ready", "WAL files waiting to be archived."),
    _gauge("apply_bytes", "WAL this standby has received and not replayed."),
    _gauge("wal_receivers", "Connections of this standby to its primary."),
    _gauge("message_age_seconds", "Age of the last message this standby had from its primary."),
    _gauge("replication_lag_seconds", "How far this standby is behind; absent when it cannot be known."),
    _gauge("sequence_used_ratio", "Share of the fullest sequence that is used."),
    _gauge("canary_seconds", "Time a canary commit took."),
    _gauge("timeline", "The server's timeline, which a failover raises."),
    _gauge("statement_mean_seconds", "Mean time of all statements since the last look."),
    _counter("statement_calls", "Statements executed, as far as pg_stat_statements remembers."),
    _gauge("replica_apply_bytes", "WAL a discovered standby has received and not replayed.", "replica"),
    _gauge("flex_role", "1 for the role a Fly Postgres machine says it has.", "role"),
    _gauge("flex_check", "1 when a Fly Postgres machine passes its own check.", "name"),
    _gauge("volume_used_ratio", "Share of the volume that is used, as the machine's own check says."),
    _gauge("proxy_backends_up", "Servers HAProxy sends connections to; on 5432 that is the primary."),
    _gauge("replica_up", "1 when a discovered standby lets the agent in and answers.", "replica"),
)
