"""Everything beyond the vitals: read at its own pace, compared with the look before, judged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import msgspec
from msgspec.structs import replace

from checks.clock import Clock
from checks.finding import Evidence, Measure, State
from checks.limits import chosen, profile_of
from checks.postgres import canary, depth, flex, judge_depth, replicas
from checks.postgres.depth import Depth
from checks.postgres.flex import FlexSource
from checks.postgres.options import PostgresOptions
from checks.postgres.reading import Reading
from checks.postgres.session import Session
from checks.postgres.slow import SlowSignals, ask
from checks.postgres.thresholds import Thresholds
from checks.postgres.vitals import Vitals
from checks.problem import Problem, over
from checks.reason import Reason
from checks.units import Duration

# Sequences, statements, identity and the archive's queue change slowly and cost more than the rest.
_SLOW_EVERY_S: Final = 60.0
_CANARY_EVERY_S: Final = 30.0
_REPLICAS_EVERY_S: Final = 30.0
_FLEX_EVERY_S: Final = 30.0


class Signals:
    """Reads and remembers. Raises what Session.text raises when the connection itself fails."""

    def __init__(
        self,
        session: Session,
        options: PostgresOptions,
        limits: Thresholds,
        clock: Clock,
        *,
        environment: str,
        flex_source: FlexSource | None = None,
    ) -> None:
        self._session = session
        self._options = options
        self._limits = limits
        self._clock = clock
        self._within_s = float(options.answer_within)
        self._environment = environment
        self._before: tuple[float, float, Depth] | None = None
        self._started_s: float | None = None
        self._in_recovery: bool | None = None
        self._most_standbys = options.standbys or 0
        self._unused_s: dict[str, float] = {}
        self._receiver_gone_s: float | None = None
        self._due_s: dict[str, float] = {}
        self._kept: dict[str, Reading] = {}
        self._slow_signals = SlowSignals(session, options, limits)
        self._flex = flex_source

    async def read(self, vitals: Vitals) -> Reading:
        """One round: the deeper statement always, the slow ones when they are due."""
        reading = Reading()
        now_s = self._clock.monotonic_s()
        reading.problems += self._events(vitals)
        await self._depth(reading, vitals, now_s)
        for name, every_s, read in (
            ("canary", self._canary_every_s(vitals), self._canary),
            ("slow", _SLOW_EVERY_S, self._slow),
            ("replicas", _REPLICAS_EVERY_S if self._options.replicas else None, self._replicas),
            ("flex", None if self._flex is None else _FLEX_EVERY_S, self._read_flex),
        ):
            if every_s is not None:
                kept = await self._paced(name, every_s, read, vitals, now_s)
                reading.problems += kept.problems
                reading.measures += kept.measures
                reading.evidence += kept.evidence
        if vitals.hidden and not vitals.monitor:
            words = f"{vitals.hidden} sessions are masked: GRANT pg_monitor (see `gaia doctor postgres`)"
            reading.evidence.append(Evidence(name="not_permitted", value=words))
        return reading

    async def _paced(
        self,
        name: str,
        every_s: float,
        read: Callable[[Vitals], Awaitable[Reading]],
        vitals: Vitals,
        now_s: float,
    ) -> Reading:
        """The last reading until the next is due; a reading with a problem is due at every look."""
        kept = self._kept.get(name)
        if kept is None or kept.problems or now_s >= self._due_s.get(name, 0.0):
            self._due_s[name] = now_s + every_s
            kept = self._kept[name] = await read(vitals)
        return kept

    def _events(self, vitals: Vitals) -> Iterator[Problem]:
        shown = self._session.place.shown
        if self._started_s is not None and abs(vitals.started_s - self._started_s) > 1:
            words = f"{shown} restarted since the last look: see its log for why"
            yield Problem(state=State.UP, reason=Reason.PG_RESTARTED, message=words)
        if self._in_recovery is True and not vitals.in_recovery:
            words = f"{shown} was promoted to primary: check that the old one stays away"
            yield Problem(state=State.UP, reason=Reason.PG_FAILOVER, message=words)
        self._started_s, self._in_recovery = vitals.started_s, vitals.in_recovery

    async def _depth(self, reading: Reading, vitals: Vitals, now_s: float) -> None:
        sql = depth.sql(version=vitals.version, in_recovery=vitals.in_recovery)
        text = await ask(self._session, sql, reading, name="depth", within_s=self._within_s)
        if text is None:
            return
        now = self._with_ages(msgspec.json.decode(text, type=Depth), now_s)
        span = None
        if self._before is not None and self._before[1] == vitals.started_s and now_s > self._before[0]:
            span = judge_depth.Span(now=now, before=self._before[2], seconds=now_s - self._before[0])
        self._before = (now_s, vitals.started_s, now)
        shown = self._session.place.shown
        reading.depth = now
        reading.problems += judge_depth.judge(span, now, self._limits, shown=shown)
        reading.problems += self._standbys(now, vitals) if not vitals.in_recovery else ()
        reading.problems += self._receiver(now, now_s) if vitals.in_recovery else ()
        reading.measures += judge_depth.measures(now)
        lag_s = _lag_s(now) if vitals.in_recovery else None
        if lag_s is not None:
            reading.measures.append(Measure(name="gaia_postgres_replication_lag_seconds", value=lag_s))

    def _with_ages(self, now: Depth, now_s: float) -> Depth:
        """Before 17 a server does not say since when a slot is unused: since we saw it so, at least."""
        unused = {slot.name for slot in now.slots if not slot.active}
        self._unused_s = {name: self._unused_s.get(name, now_s) for name in unused}
        slots = tuple(
            replace(slot, inactive_s=now_s - self._unused_s[slot.name])
            if slot.name in unused and slot.inactive_s is None
            else slot
            for slot in now.slots
        )
        return replace(now, slots=slots)

    def _standbys(self, now: Depth, vitals: Vitals) -> Iterator[Problem]:
        streaming = sum(one.state == "streaming" for one in now.standbys)
        if vitals.hidden and any(one.state is None for one in now.standbys):
            return
        expected = self._options.standbys
        if expected is None:
            expected = self._most_standbys = max(self._most_standbys, streaming)
        if streaming >= expected or chosen(self._limits.replay_age) is None:
            return
        words = (
            f"{self._session.place.shown} has {streaming} of {expected} standbys streaming: "
            "a failover may lose data or be impossible; start the missing one"
        )
        yield Problem(state=State.DEGRADED, reason=Reason.PG_REPLICA_MISSING, message=words, urgent=True)

    def _receiver(self, now: Depth, now_s: float) -> Iterator[Problem]:
        if now.receivers != 0:
            self._receiver_gone_s = None
            return
        if self._receiver_gone_s is None:
            self._receiver_gone_s = now_s
        gone_s = now_s - self._receiver_gone_s
        yield from over(
            chosen(self._limits.receiver_gone),
            gone_s,
            Reason.PG_REPLICA_DISCONNECTED,
            lambda at: (
                f"{self._session.place.shown} receives nothing from its primary for {gone_s:.0f} s "
                f"(limit {Duration(at)}): what it answers is old; check primary_conninfo and the route"
            ),
            critical_state=State.DOWN,
        )

    def _canary_every_s(self, vitals: Vitals) -> float | None:
        written = self._options.canary
        if vitals.in_recovery or chosen(self._limits.canary) is None or not self._options.hold:
            return None
        if written is not None:
            return float(written) or None
        production = profile_of(self._environment, self._options.profile) == "production"
        return _CANARY_EVERY_S if production else None

    async def _canary(self, vitals: Vitals) -> Reading:
        return await canary.commit(
            self._session, self._limits, self._clock, vitals, answer_within_s=self._within_s
        )

    async def _slow(self, _vitals: Vitals) -> Reading:
        archiving = self._before is not None and self._before[2].archiving
        return await self._slow_signals.read(archiving=archiving)

    async def _read_flex(self, _vitals: Vitals) -> Reading:
        assert self._flex is not None, "asked only with one"
        place = self._session.place
        seen = await self._flex.read(within_s=self._within_s)
        return Reading(
            problems=list(flex.judge(seen, place.shown, role=self._options.expected_role, port=place.port)),
            measures=list(flex.measures(seen)),
            evidence=list(flex.evidence(seen)),
        )

    async def _replicas(self, vitals: Vitals) -> Reading:
        reading = Reading()
        if self._before is None or not self._before[2].standbys:
            return reading
        place = self._session.place
        found = await replicas.look(
            self._before[2].standbys,
            place,
            self._session.resolver,
            self._clock,
            port=self._options.replica_port,
            within_s=self._within_s,
        )
        for replica in found:
            problems, measures, evidence = replicas.judge(replica, place.shown, started_s=vitals.started_s)
            reading.problems += problems
            reading.measures += measures
            reading.evidence += evidence
        return reading


def _lag_s(now: Depth) -> float | None:
    """Seconds behind, from three witnesses; None when nobody can know.

    Caught up with a primary that is heard means 0 however old its last commit is; with something left to
    replay the age of the last replayed commit counts; without a primary only silence is known.
    """
    if not now.receivers:
        return None
    return now.replayed_age_s if now.apply_bytes else 0.0
