"""Witnesses who disagree: what a service says, what the agent sees of the same thing, what its traffic shows.

Pure. A contradiction is a gray failure or a health endpoint that lies; it never changes anybody's verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from msgspec import Struct

from checks.finding import Claim, Evidence, Finding, State
from checks.reason import Reason
from checks.target import Kind
from checks.units import Duration
from checks.wire.expiry import moment

# Health documents are cached by those who write them: disagreeing this long is no matter of timing.
GRACE_S: Final = 15.0
_LEAST_REQUESTS: Final = 20
_MOST_ERRORS: Final = 0.2
# What people call a dependency of this kind in their documents.
_NICKNAMES: Final = {
    Kind.DATABASE: frozenset(
        {"database", "db", "postgres", "postgresql", "pg", "sql", "datastore", "datasource"}
    ),
    Kind.BROKER: frozenset({"nats", "broker", "messaging", "jetstream", "queue", "bus", "mq"}),
}
_OPPOSITES: Final = frozenset({(State.UP, State.DOWN), (State.DOWN, State.UP)})


class Witness(Struct, frozen=True, kw_only=True):
    """What `service` says of itself (`state`) and of its dependencies.

    `since_s` is the wall time since when it says so of itself, `claims_since_s` of each dependency.
    """

    service: str
    state: State
    since_s: float
    claims: tuple[Claim, ...] = ()
    claims_since_s: Mapping[str, float] = {}
    depends_on: tuple[str, ...] = ()


class Seen(Struct, frozen=True, kw_only=True):
    """What the agent itself sees of a component."""

    name: str
    kind: Kind
    state: State
    message: str
    since_s: float


class Traffic(Struct, frozen=True, kw_only=True):
    """What a service's requests show over the last `window_s` seconds."""

    requests: int
    error_ratio: float
    window_s: float
    since_s: float


class Contradiction(Struct, frozen=True, kw_only=True):
    """A finding about `service`, concerning `about`, standing since wall time `since_s`."""

    service: str
    about: str
    since_s: float
    finding: Finding


def contradictions(
    witnesses: Iterable[Witness],
    seen: Mapping[str, Seen],
    traffic: Mapping[str, Traffic],
    *,
    now_s: float,
    grace_s: float = GRACE_S,
) -> tuple[Contradiction, ...]:
    """Every disagreement that has stood for `grace_s` at wall time `now_s`, by service and subject."""
    found = [
        one
        for witness in witnesses
        for one in (*_about_dependencies(witness, seen), *_about_itself(witness, traffic))
        if now_s - one.since_s >= grace_s
    ]
    return tuple(sorted(found, key=lambda one: (one.service, one.about)))


def _about_dependencies(witness: Witness, seen: Mapping[str, Seen]) -> Iterator[Contradiction]:
    for claim in witness.claims:
        component = subject_of(claim.about, witness.depends_on, seen)
        if component is None or (claim.state, component.state) not in _OPPOSITES:
            continue
        said = f"says {claim.about} is {claim.state}" + (f" ({claim.output[:100]})" if claim.output else "")
        ours = (
            f"the agent finds {component.name} down: {component.message}"
            if component.state is State.DOWN
            else f"the agent finds {component.name} up: look at what lies between them"
        )
        since_s = max(witness.claims_since_s.get(claim.about, witness.since_s), component.since_s)
        yield Contradiction(
            service=witness.service,
            about=component.name,
            since_s=since_s,
            finding=_finding(
                witness.service, said, ours, component.message, since=f"since {moment(since_s)}"
            ),
        )


def _about_itself(witness: Witness, traffic: Mapping[str, Traffic]) -> Iterator[Contradiction]:
    requests = traffic.get(witness.service)
    if requests is None or witness.state is not State.UP:
        return
    if requests.requests < _LEAST_REQUESTS or requests.error_ratio < _MOST_ERRORS:
        return
    failing = f"{requests.error_ratio:.0%} of its {requests.requests} requests fail"
    yield Contradiction(
        service=witness.service,
        about=witness.service,
        since_s=max(witness.since_s, requests.since_s),
        finding=_finding(
            witness.service,
            "says it is up",
            failing,
            f"over {requests.window_s:g} s: {failing}",
            since=f"in the last {Duration(requests.window_s)}",
        ),
    )


def subject_of(about: str, depends_on: tuple[str, ...], seen: Mapping[str, Seen]) -> Seen | None:
    """The component a claim is about: by its name, or by a nickname that fits exactly one dependency."""
    name = about.rpartition("/")[2].strip().lower()
    for component in seen.values():
        if component.name.lower() == name:
            return component
    named = [
        seen[dependency]
        for dependency in depends_on
        if dependency in seen and name in _NICKNAMES.get(seen[dependency].kind, ())
    ]
    return named[0] if len(named) == 1 else None


def _finding(service: str, said: str, ours: str, evidence: str, *, since: str) -> Finding:
    return Finding(
        state=State.DEGRADED,
        reason=Reason.CONTRADICTION,
        message=f"{service} {said}, {ours}, {since}",
        evidence=(
            Evidence(name="witness 1", value=f"{service} {said}"),
            Evidence(name="witness 2", value=evidence[:500]),
        ),
    )
