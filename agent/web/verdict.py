"""The first line of the page: one sentence on how things are, one on what is wrong and what is not."""

from __future__ import annotations

from msgspec import Struct

from agent.web.overview import WELL, Component, Environment, Overview, lasting, listed, phrase
from checks.finding import State


class Sentence(Struct, frozen=True, kw_only=True):
    """A headline and its explanation, in plain text."""

    state: State
    headline: str
    detail: str


def sentence(overview: Overview, *, started_s: float) -> Sentence:
    """How the platform is, said as one would say it to the person who was just woken."""
    environments = [environment for environment in overview.environments if environment.components]
    if not environments:
        return Sentence(
            state=State.UNKNOWN,
            headline="Nothing is watched yet",
            detail="gaia.yaml names no target in these environments. Add a service and run `gaia reload`.",
        )
    if not any(environment.seen for environment in environments):
        age = lasting(overview.now_s - started_s)
        return Sentence(
            state=State.UNKNOWN,
            headline="Waiting for the first look",
            detail=f"The agent started {age} ago and no look at its {overview.targets} targets has finished. "
            "Nothing is shown as healthy until a check has passed.",
        )
    for environment in environments:
        if environment.state not in WELL:
            others = " ".join(_aside(other) for other in environments if other is not environment)
            parts = (_wrong(environment, overview.now_s), others)
            return Sentence(
                state=environment.state,
                headline=_headline(environment),
                detail=" ".join(filter(None, parts)),
            )
    return Sentence(
        state=environments[0].state,
        headline=_all_well(environments),
        detail=" ".join(
            filter(None, (*(_aside(environment) for environment in environments), _calm(overview)))
        ),
    )


def _headline(environment: Environment) -> str:
    state, name = environment.state, environment.info.name
    worst = [component for component in environment.roots if component.state is state]
    worst = worst or [component for component in environment.not_well if component.state is state]
    if len(worst) == 1:
        return f"{worst[0].service} {phrase(worst[0])} in {name}"
    word = {State.DOWN: "are down", State.DEGRADED: "are degraded"}.get(state, "cannot be seen")
    if len(worst) == 2:
        return f"{listed(component.service for component in worst)} {word} in {name}"
    return f"{len(worst)} components {word} in {name}"


def _wrong(environment: Environment, now_s: float) -> str:
    roots = environment.roots
    told = [_reason(component, now_s) for component in roots[:2]]
    if len(roots) > 2:
        told.append(f"Also not well: {listed(component.service for component in roots[2:])}.")
    explained = [component for component in environment.not_well if component not in roots]
    if explained:
        told.append(_dependents(explained, roots))
    fine = [component for component in environment.components if component.state is State.UP]
    if fine:
        told.append(
            f"{_first_up(listed(part.service for part in fine))} {'is' if len(fine) == 1 else 'are'} up."
        )
    else:
        told.append("Nothing else there is up.")
    return " ".join(told)


def _dependents(explained: list[Component], roots: tuple[Component, ...]) -> str:
    names = listed(component.service for component in explained)
    verbs = ("depends", "suffers") if len(explained) == 1 else ("depend", "suffer")
    return f"{_first_up(names)} {verbs[0]} on {'it' if len(roots) == 1 else 'them'} and {verbs[1]} too."


def _reason(component: Component, now_s: float) -> str:
    shown = component.worst.shown
    text = shown.message.rstrip(".")
    if text.partition(" ")[0].isalpha() and component.service != text.partition(" ")[0]:
        text = _first_up(text)  # A word of ours; names and addresses stay as they are written.
    span = lasting(now_s - shown.since_s) if shown.since_s else ""
    return f"{text}, for {span}." if span else f"{text}."


def _aside(environment: Environment) -> str:
    name = _first_up(environment.info.name)
    total = len(environment.components)
    parts = [f"{environment.states.get(State.UP, 0)} of {total} up"]
    parts += [
        f"{count} {word}"
        for state, word in (
            (State.DOWN, "down"),
            (State.DEGRADED, "degraded"),
            (State.UNKNOWN, "not seen"),
            (State.STARTING, "starting"),
            (State.ASLEEP, "asleep"),
        )
        if (count := environment.states.get(state, 0))
    ]
    calm = "" if environment.info.pages else ", nobody is called from there"
    return f"{name}: {', '.join(parts)}{calm}."


def _all_well(environments: list[Environment]) -> str:
    if len(environments) == 1:
        name, states = environments[0].info.name, environments[0].states
        return (
            f"{_first_up(name)} is asleep"
            if set(states) == {State.ASLEEP}
            else f"{_first_up(name)} is healthy"
        )
    return "Everything is healthy"


def _calm(overview: Overview) -> str:
    if overview.firing:
        count = len(overview.firing)
        return f"{count} {'alert is' if count == 1 else 'alerts are'} still active."
    return "No alert is active."


def _first_up(text: str) -> str:
    return text[:1].upper() + text[1:]
