"""What the judge remembers of one target: its last looks, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from struct import Struct as Packing
from typing import Final

import msgspec
from msgspec import Struct

from checks.finding import Claim, State
from checks.instances import groups, together
from checks.observation import Observation, Occasion
from checks.reason import Reason
from checks.target import Target, TargetKey
from checks.verdict import Verdict

_LOOKS_KEPT: Final = 20
_FAILURES_KEPT: Final = 64
_MEASURES_KEPT: Final = 512
_COLD_START_GRACE_S: Final = 30.0
_CALM_AFTER_S: Final = 3600.0

_STATES: Final = tuple(State)
_LOOK: Final = Packing("<ddB")
_TIME: Final = Packing("<d")
_NOT_MEASURED: Final = -1.0
_SCHEDULED: Final = 16
_COLD: Final = 32

Labels = tuple[tuple[str, str], ...]


class Look(Struct, frozen=True):
    """One past look. `cold` ones began within the grace after the target woke: their latency says nothing."""

    at_s: float
    state: State
    latency_s: float | None
    scheduled: bool
    cold: bool


class Looks:
    """The last looks of one target, 17 bytes each, oldest first."""

    __slots__ = ("_packed",)

    def __init__(self) -> None:
        self._packed = b""

    def add(self, look: Look) -> None:
        """Remember one look, forgetting the oldest when full."""
        flags = _STATES.index(look.state) | _SCHEDULED * look.scheduled | _COLD * look.cold
        latency_s = _NOT_MEASURED if look.latency_s is None else look.latency_s
        kept = self._packed[-(_LOOKS_KEPT - 1) * _LOOK.size :]
        self._packed = kept + _LOOK.pack(look.at_s, latency_s, flags)

    def __len__(self) -> int:
        return len(self._packed) // _LOOK.size

    def __iter__(self) -> Iterator[Look]:
        return map(_look, _LOOK.iter_unpack(self._packed))

    def last(self, count: int) -> list[Look]:
        """The newest `count` looks, oldest first."""
        return list(map(_look, _LOOK.iter_unpack(self._packed[-count * _LOOK.size :])))


def _look(packed: tuple[float, float, int]) -> Look:
    at_s, latency_s, flags = packed
    return Look(
        at_s,
        _STATES[flags & 15],
        None if latency_s == _NOT_MEASURED else latency_s,
        bool(flags & _SCHEDULED),
        bool(flags & _COLD),
    )


class Watch:
    """The memory of one target. `take` is O(measures); everything else reads."""

    __slots__ = (
        "_calm",
        "_claimed",
        "_failures",
        "_slow_s",
        "_tracked",
        "history",
        "interval_s",
        "known_at_s",
        "latest",
        "looks",
        "target",
        "verdict",
        "woke_at_s",
    )  # fmt: skip

    def __init__(
        self,
        target: Target,
        interval_s: float,
        tracked: frozenset[str] = frozenset(),
        *,
        slow_s: float = 0.0,
    ) -> None:
        self.target = target
        self.interval_s = interval_s
        self.verdict = Verdict()
        self.latest: Observation | None = None
        self.known_at_s = 0.0
        self.looks = Looks()
        self._failures = b""
        # Only measures whose growth some rule compares are kept over time.
        self.history: dict[tuple[str, Labels], deque[tuple[float, float]]] = {}
        self._tracked = tracked
        self._slow_s = slow_s
        self._calm = 0
        self.woke_at_s = 0.0
        self._claimed: dict[str, tuple[State, float]] = {}

    def resume(self, before: Watch | None) -> Watch:
        """Take over what an earlier watch of the same target knew."""
        if before is not None:
            self.verdict, self.latest, self.known_at_s = before.verdict, before.latest, before.known_at_s
            self.looks, self._failures = before.looks, before._failures  # noqa: SLF001 - its own kind
            self.history = {name: kept for name, kept in before.history.items() if name[0] in self._tracked}
            self.woke_at_s = before.woke_at_s
            self._claimed = before._claimed  # noqa: SLF001 - its own kind
        return self

    def take(self, observation: Observation, verdict: Verdict) -> None:
        """Remember one look and the verdict it led to."""
        finding = observation.finding
        at_s = observation.at_s
        before = self.latest
        if before is not None and before.finding.state in (State.ASLEEP, State.STARTING):
            self.woke_at_s = at_s
        # A service that says the same each time says it in the very same words.
        if finding.claims is not (before.finding.claims if before is not None else ()):
            self._claim(finding.claims, at_s)
        self.latest = observation
        self.verdict = verdict
        if finding.state is not State.UNKNOWN:
            self.known_at_s = at_s
        if finding.state is State.DOWN:
            self._failures = self._failures[-(_FAILURES_KEPT - 1) * _TIME.size :] + _TIME.pack(at_s)
        self.looks.add(
            Look(
                at_s,
                finding.state,
                finding.latency_s,
                observation.occasion is Occasion.SCHEDULED,
                at_s - self.woke_at_s < _COLD_START_GRACE_S,
            )
        )
        well = (
            finding.state is State.UP
            and verdict.state is State.UP
            and finding.reason is Reason.OK
            and not finding.claims
            and (finding.latency_s or 0.0) <= self._slow_s
        )
        self._calm = self._calm + 1 if well else 0
        if self._tracked:
            self._track(observation)

    def _claim(self, claims: tuple[Claim, ...], at_s: float) -> None:
        claimed: dict[str, tuple[State, float]] = {}
        for claim in claims:
            known = self._claimed.get(claim.about)
            same = known is not None and known[0] is claim.state
            claimed[claim.about] = known if known is not None and same else (claim.state, at_s)
        self._claimed = claimed

    @property
    def claims_since_s(self) -> dict[str, float]:
        """Since when the target says of each of its dependencies what it says now (wall seconds)."""
        return {about: since_s for about, (_, since_s) in self._claimed.items()}

    def stepped_back(self, by_s: float, now_s: float) -> None:
        """The wall clock was set back: what lies ahead of it was seen before, so much earlier."""
        if self.known_at_s > now_s:
            self.known_at_s -= by_s
        if self.woke_at_s > now_s:
            self.woke_at_s -= by_s
        earlier = (at_s - by_s if at_s > now_s else at_s for at_s in self.failures)
        self._failures = b"".join(map(_TIME.pack, earlier))
        if self.latest is not None and self.latest.at_s > now_s:
            self.latest = msgspec.structs.replace(self.latest, at_s=self.latest.at_s - by_s)
        self._claimed = {about: (state, at_s - by_s) for about, (state, at_s) in self._claimed.items()}

    def calm(self, now_s: float) -> bool:
        """Whether every look that is remembered was plainly good: then no rule over looks can be bad."""
        latest = self.latest
        return (
            latest is not None
            and self._calm >= len(self.looks)
            and now_s - latest.at_s <= 2.5 * self.interval_s + 5
            and (not self._failures or latest.at_s - self.failures[-1] > _CALM_AFTER_S)
        )

    @property
    def failures(self) -> tuple[float, ...]:
        """When the last looks that found it down began, oldest first (wall seconds)."""
        return tuple(at_s for (at_s,) in _TIME.iter_unpack(self._failures))

    def fresh(self, now_s: float) -> bool:
        """Whether the last look is young enough to speak: 2.5 intervals."""
        return self.latest is not None and now_s - self.latest.at_s <= 2.5 * self.interval_s + 5

    def now(self, now_s: float) -> Verdict:
        """The verdict as far as it still speaks: nothing is known where the last look is too old."""
        if self.latest is None or self.fresh(now_s):
            return self.verdict
        age_s = round(now_s - self.latest.at_s)
        return Verdict(
            state=State.UNKNOWN,
            reason=Reason.STALE,
            message=f"the last look is {age_s} s old; it was {self.verdict.state}",
            since_s=self.latest.at_s,
        )

    def _track(self, observation: Observation) -> None:
        for measure in observation.finding.measures:
            if measure.name in self._tracked:
                points = self.history.setdefault((measure.name, measure.labels), deque(maxlen=_MEASURES_KEPT))
                points.append((observation.at_s, measure.value))


def verdicts(watches: Sequence[Watch]) -> Mapping[TargetKey, Verdict]:
    """What the targets of a component are; its instances speak with one voice, under the key of the first."""
    found = {watch.target.key: watch.verdict for watch in watches}
    for first, members in groups(watch.target for watch in watches).items():
        found[first] = together([(one, found[one.key]) for one in members])
        for one in members[1:]:
            del found[one.key]
    return found
