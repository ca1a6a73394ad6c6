"""From where on a host signal is worth a word, per environment: what operators use, as defaults."""

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
from checks.units import Duration


class Thresholds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every limit of the host signals; what is not written comes from the environment's profile.

    `null` switches a limit off. `cpu_for`, `pressure_for`: how long CPU, and pressure and the loop's lag,
    must stay over theirs.
    `disk_full_in` is the other way round: less time left is worse.
    """

    cpu: RatioLimit | UnsetType | None = UNSET
    cpu_for: Duration | UnsetType = UNSET
    throttled: RatioLimit | UnsetType | None = UNSET
    pressure: RatioLimit | UnsetType | None = UNSET
    pressure_for: Duration | UnsetType = UNSET
    load_per_cpu: CountLimit | UnsetType | None = UNSET
    memory_used: RatioLimit | UnsetType | None = UNSET
    oom_kills: bool | UnsetType = UNSET
    disk_used: RatioLimit | UnsetType | None = UNSET
    inodes_used: RatioLimit | UnsetType | None = UNSET
    disk_full_in: DurationLimit | UnsetType | None = UNSET
    tasks_used: RatioLimit | UnsetType | None = UNSET
    files_used: RatioLimit | UnsetType | None = UNSET
    loop_lag: DurationLimit | UnsetType | None = UNSET
    clock_step: DurationLimit | UnsetType | None = UNSET


_PROFILES: Final[dict[str, Thresholds]] = {
    "development": Thresholds(
        cpu=None,
        cpu_for=Duration(600),
        throttled=None,
        pressure=None,
        pressure_for=Duration(60),
        load_per_cpu=None,
        memory_used=shares(0.95, 0.98),
        oom_kills=True,
        disk_used=shares(0.90, 0.97),
        inodes_used=shares(0.90, 0.97),
        disk_full_in=None,
        tasks_used=shares(0.90, 0.98),
        files_used=shares(0.90, 0.98),
        loop_lag=None,
        clock_step=None,
    ),
    "staging": Thresholds(
        cpu=shares(0.90, None),
        cpu_for=Duration(600),
        throttled=shares(0.25, None),
        pressure=shares(0.25, None),
        pressure_for=Duration(60),
        load_per_cpu=counts(10, None),
        memory_used=shares(0.90, 0.95),
        oom_kills=True,
        disk_used=shares(0.80, 0.90),
        inodes_used=shares(0.80, 0.90),
        disk_full_in=seconds(86400, 14400),
        tasks_used=shares(0.80, None),
        files_used=shares(0.80, None),
        loop_lag=seconds(0.5, None),
        clock_step=seconds(2, 10),
    ),
    "production": Thresholds(
        cpu=shares(0.80, 0.95),
        cpu_for=Duration(600),
        throttled=shares(0.10, 0.25),
        pressure=shares(0.10, 0.25),
        pressure_for=Duration(60),
        load_per_cpu=counts(10, None),
        memory_used=shares(0.85, 0.93),
        oom_kills=True,
        disk_used=shares(0.80, 0.90),
        inodes_used=shares(0.80, 0.90),
        disk_full_in=seconds(86400, 14400),
        tasks_used=shares(0.70, 0.90),
        files_used=shares(0.70, 0.90),
        loop_lag=seconds(0.1, 0.5),
        clock_step=seconds(0.5, 2),
    ),
}


def effective(environment: str, profile: Profile, written: Thresholds) -> Thresholds:
    """Every limit decided: those written over those of the profile. No field is UNSET afterwards."""
    return over_defaults(written, _PROFILES[profile_of(environment, profile)])
