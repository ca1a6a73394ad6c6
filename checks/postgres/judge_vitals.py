"""What the vitals mean: pure, from one answer and the limits to problems."""

from __future__ import annotations

from checks.finding import Measure, State
from checks.limits import chosen
from checks.postgres.options import Role
from checks.postgres.thresholds import Thresholds
from checks.postgres.vitals import Vitals
from checks.problem import Problem, over
from checks.reason import Reason
from checks.units import Duration


def judge(vitals: Vitals, limits: Thresholds, *, shown: str, role: Role) -> tuple[Problem, ...]:
    """Every problem the vitals show, in the order an operator would name them."""
    return (
        *_role(vitals, shown, role),
        *_writability(vitals, shown),
        *_connections(vitals, limits, shown),
        *_waiting(vitals, limits, shown),
        *_ages(vitals, limits, shown),
    )


def age(seconds: float) -> str:
    """A length of time as people say it."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 600:
        return f"{seconds:.0f} s"
    if seconds < 2 * 86400:
        return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def _role(vitals: Vitals, shown: str, role: Role) -> tuple[Problem, ...]:
    is_role = "standby" if vitals.in_recovery else "primary"
    if role in ("any", is_role):
        return ()
    words = (
        f"{shown} is a {is_role} and should be the {role}: was there a failover? correct the URL or promote"
    )
    return (Problem(state=State.DOWN, reason=Reason.PG_WRONG_ROLE, message=words, urgent=True),)


def _writability(vitals: Vitals, shown: str) -> tuple[Problem, ...]:
    if not vitals.read_only:
        return ()
    where = ", ".join(vitals.read_only_databases[:5]) or vitals.database
    words = (
        f"{shown} refuses writes: default_transaction_read_only is on for {where}; "
        "a volume above 90 % does that on Fly: extend it, then it clears"
    )
    return (Problem(state=State.DOWN, reason=Reason.PG_READ_ONLY, message=words, urgent=True),)


def _connections(vitals: Vitals, limits: Thresholds, shown: str) -> tuple[Problem, ...]:
    used, usable = vitals.used, vitals.usable
    holders = ", ".join(f"{name or 'unknown'} {count}" for name, count in vitals.top_roles)
    if used >= usable:
        words = (
            f"{shown} has no connection slot left for applications: {used} of {usable} taken ({holders}); "
            "find the leak, add a pooler or raise max_connections"
        )
        return (Problem(state=State.DOWN, reason=Reason.PG_TOO_MANY_CONNECTIONS, message=words, urgent=True),)
    return over(
        chosen(limits.connections),
        used / usable,
        Reason.PG_CONNECTIONS_HIGH,
        lambda at: (
            f"{shown} has {used} of {usable} connections taken "
            f"({used / usable:.0%}, limit {at:.0%}): {holders}"
        ),
    )


def _waiting(vitals: Vitals, limits: Thresholds, shown: str) -> tuple[Problem, ...]:
    sync, lock = vitals.sync_wait_s or 0.0, vitals.lock_wait_s or 0.0
    return (
        *over(
            chosen(limits.sync_wait),
            vitals.sync_wait_s,
            Reason.PG_SYNCREP_STALLED,
            lambda at: (
                f"{vitals.sync_waiters} commits on {shown} wait for a synchronous standby, the longest for "
                f"{age(sync)} (limit {Duration(at)}): bring it back or clear synchronous_standby_names"
            ),
            critical_state=State.DOWN,
        ),
        *over(
            chosen(limits.lock_wait),
            vitals.lock_wait_s,
            Reason.PG_LOCK_WAIT,
            lambda at: (
                f"{max(vitals.lock_waiters, 1)} sessions on {shown} wait for a lock, the longest for "
                f"{age(lock)} (limit {Duration(at)}): see pg_blocking_pids()"
            ),
        ),
    )


def _ages(vitals: Vitals, limits: Thresholds, shown: str) -> tuple[Problem, ...]:
    longest = max(vitals.longest_query_s or 0.0, vitals.longest_transaction_s or 0.0)
    idle, snapshot = vitals.idle_in_transaction_s or 0.0, vitals.oldest_snapshot_s or 0.0
    return (
        *over(
            chosen(limits.idle_in_transaction),
            vitals.idle_in_transaction_s,
            Reason.PG_IDLE_IN_TRANSACTION,
            lambda at: (
                f"a session on {shown} sits idle in a transaction for {age(idle)} (limit {Duration(at)}): "
                "it blocks vacuum; end it or set idle_in_transaction_session_timeout"
            ),
        ),
        *over(
            chosen(limits.longest_transaction),
            longest,
            Reason.PG_LONG_TRANSACTION,
            lambda at: (
                f"the longest transaction on {shown} runs for {age(longest)} (limit {Duration(at)}): "
                "see pg_stat_activity"
            ),
        ),
        *over(
            chosen(limits.oldest_snapshot),
            vitals.oldest_snapshot_s,
            Reason.PG_XMIN_HORIZON,
            lambda at: (
                f"the oldest snapshot on {shown} is {age(snapshot)} old (limit {Duration(at)}): "
                "vacuum cannot pass it"
            ),
        ),
    )


def measures(vitals: Vitals) -> tuple[Measure, ...]:
    """The numbers of the vitals. A masked number is left out, never 0."""
    plain: dict[str, float | None] = {
        "gaia_postgres_in_recovery": float(vitals.in_recovery),
        "gaia_postgres_read_only": float(vitals.read_only),
        "gaia_postgres_start_time_seconds": vitals.started_s,
        "gaia_postgres_connections": vitals.used,
        "gaia_postgres_connections_limit": vitals.usable,
    }
    if not vitals.hidden:
        plain |= {
            "gaia_postgres_idle_in_transaction_seconds": vitals.idle_in_transaction_s or 0.0,
            "gaia_postgres_longest_query_seconds": vitals.longest_query_s or 0.0,
            "gaia_postgres_longest_transaction_seconds": vitals.longest_transaction_s or 0.0,
            "gaia_postgres_lock_waiters": vitals.lock_waiters,
            "gaia_postgres_lock_wait_seconds": vitals.lock_wait_s or 0.0,
            "gaia_postgres_sync_waiters": vitals.sync_waiters,
            "gaia_postgres_oldest_snapshot_seconds": vitals.oldest_snapshot_s or 0.0,
        }
    return (
        *(Measure(name=name, value=float(value)) for name, value in plain.items() if value is not None),
        *(
            Measure(name="gaia_postgres_sessions", value=float(count), labels=(("state", state),))
            for state, count in (vitals.by_state.items() if not vitals.hidden else ())
        ),
    )
