"""A health document once it is understood: a state, and a claim for each dependency."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from msgspec import Struct

from checks.finding import Claim, State


class Dialect(StrEnum):
    """Who writes health documents this way."""

    HEALTH_JSON = "health+json"  # draft-inadarei-api-health-check-06
    ACTUATOR = "actuator"  # Spring Boot
    MICROPROFILE = "microprofile"  # MicroProfile Health 4
    ASPNET = "aspnet"  # Microsoft.Extensions.Diagnostics.HealthChecks and AspNetCore.Diagnostics.HealthChecks
    PLAIN = "plain"  # what people write by hand


class HealthDocument(Struct, frozen=True, kw_only=True):
    """What the document says. `output` is its own words about the whole, `word` its status as written."""

    dialect: Dialect
    state: State
    word: str
    claims: tuple[Claim, ...] = ()
    output: str = ""
    version: str = ""


_WORDS: Final = {
    State.UP: (
        "pass ok okay up healthy success alive ready running green available connected operational good true "
        "passing serving active online"
    ),
    State.DEGRADED: "warn warning degraded yellow partial slow impaired",
    State.DOWN: (
        "fail failed failing error err down unhealthy critical red unavailable out_of_service disconnected "
        "dead not_ready notready bad false ko offline outage not_serving timeout unreachable"
    ),
    State.STARTING: "starting initializing initialising booting warming_up",
    State.UNKNOWN: "unknown pending disabled skipped not_configured",
}

_STATES: Final = {word: state for state, words in _WORDS.items() for word in words.split()}


def state_of(word: object) -> State | None:
    """The state a status word or flag means; None when it is none that anybody uses."""
    if isinstance(word, bool):
        return State.UP if word else State.DOWN
    if isinstance(word, str):
        return _STATES.get(word.strip().lower().replace(" ", "_"))
    return None
