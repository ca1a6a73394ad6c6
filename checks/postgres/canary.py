"""The write canary: a commit without a table or a grant, which waits for standbys as every commit does."""

from __future__ import annotations

from typing import Final

from checks.clock import Clock
from checks.finding import Measure, State
from checks.limits import chosen
from checks.postgres import depth
from checks.postgres.reading import Reading
from checks.postgres.session import QueryRefusedError, Session
from checks.postgres.thresholds import Thresholds
from checks.postgres.vitals import Vitals
from checks.problem import Problem, over
from checks.reason import Reason
from checks.units import Duration

_CANARY_FAULTS: Final = {
    "54000": (Reason.PG_WRAPAROUND, "transaction ids are used up: VACUUM every database"),
    "53100": (Reason.PG_DISK_FULL, "no space left: extend the volume"),
    "25006": (Reason.PG_READ_ONLY, "the server is read-only"),
}


async def commit(
    session: Session, limits: Thresholds, clock: Clock, vitals: Vitals, *, answer_within_s: float
) -> Reading:
    """A commit without a table: it waits for synchronous standbys as every commit does."""
    reading = Reading()
    shown = session.place.shown
    limit = chosen(limits.canary)
    assert limit is not None, "asked only with a limit"
    within_s = limit.critical or limit.warn or answer_within_s
    started = clock.monotonic_s()
    try:
        await session.text(depth.CANARY, within_s=within_s, cancel=True)
    except QueryRefusedError as refused:
        reason, words = _CANARY_FAULTS.get(
            refused.error.sqlstate, (Reason.PG_CANARY, f"SQLSTATE {refused.error.sqlstate}")
        )
        words = f"a canary commit on {shown} failed: {words}"
        reading.problems.append(Problem(state=State.DOWN, reason=reason, message=words, urgent=True))
        return reading
    except TimeoutError:
        stalled = vitals.sync_waiters > 0 or await _names_sync_standbys(session, answer_within_s)
        reason = Reason.PG_SYNCREP_STALLED if stalled else Reason.PG_CANARY
        why = (
            "it waits for a synchronous standby that is not there: bring it back or clear "
            "synchronous_standby_names"
            if stalled
            else "check its disk and its load"
        )
        words = f"a canary commit on {shown} did not finish within {Duration(within_s)}: {why}"
        reading.problems.append(Problem(state=State.DOWN, reason=reason, message=words, urgent=True))
        return reading
    took_s = clock.monotonic_s() - started
    reading.measures.append(Measure(name="gaia_postgres_canary_seconds", value=took_s))
    reading.problems += over(
        limit,
        took_s,
        Reason.PG_CANARY,
        lambda at: (
            f"a canary commit on {shown} took {took_s:.2f} s (limit {Duration(at)}): is its disk slow?"
        ),
    )
    return reading


async def _names_sync_standbys(session: Session, within_s: float) -> bool:
    try:
        text = await session.text("SELECT current_setting('synchronous_standby_names')", within_s=within_s)
    except (QueryRefusedError, OSError):
        return False
    return bool(text)
