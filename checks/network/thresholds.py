"""From where on a way is slow or lossy, per environment; outside production nothing slow is worth a word."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from checks.limits import (
    CountLimit,
    DurationLimit,
    Profile,
    RatioLimit,
    counts,
    over_defaults,
    profile_of,
    seconds,
    shares,
)


class Thresholds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every limit of a way; what is not written comes from the environment's profile. `null`: never judged.

    `connect`: within the agent's own region. `times_usual`: into another region, as a multiple of this way's
    own median over a day. `loss`: of the last twenty tries. `certificate_left`: less time is worse.
    """

    dns: DurationLimit | UnsetType | None = UNSET
    connect: DurationLimit | UnsetType | None = UNSET
    times_usual: CountLimit | UnsetType | None = UNSET
    loss: RatioLimit | UnsetType | None = UNSET
    certificate_left: DurationLimit | UnsetType | None = UNSET


_DAY_S: Final = 86400.0
_NOTHING: Final = Thresholds(dns=None, connect=None, times_usual=None, loss=None, certificate_left=None)
_PROFILES: Final = {
    "development": _NOTHING,
    "staging": Thresholds(
        dns=None,
        connect=None,
        times_usual=None,
        loss=shares(0.20, None),
        certificate_left=seconds(14 * _DAY_S, 3 * _DAY_S),
    ),
    "production": Thresholds(
        dns=seconds(0.05, 0.5),
        connect=seconds(0.01, 0.1),
        times_usual=counts(3, None),
        loss=shares(0.05, 0.20),
        certificate_left=seconds(21 * _DAY_S, 7 * _DAY_S),
    ),
}


def effective(environment: str, profile: Profile, written: Thresholds) -> Thresholds:
    """Every limit decided: those written over those of the profile. No field is UNSET afterwards."""
    return over_defaults(written, _PROFILES[profile_of(environment, profile)])
