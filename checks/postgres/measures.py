"""Every series the `postgres` check may emit."""

from __future__ import annotations

from typing import Final

from checks.catalog import MeasureInfo


def _gauge(name: str, text: str, *labels: str) -> MeasureInfo:
    return MeasureInfo(name=f"gaia_postgres_{name}", type="gauge", help=text, labels=labels)


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
)
