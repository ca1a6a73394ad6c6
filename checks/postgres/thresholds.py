"""From where on a PostgreSQL signal is worth a word, per environment: `facts` of operators, as defaults."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from checks.limits import (
    CountLimit,
    DurationLimit,
    Profile,
    RatioLimit,
    SizeLimit,
    counts,
    over_defaults,
    profile_of,
    seconds,
    shares,
    sizes,
)


class Thresholds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every limit of the PostgreSQL signals; what is not written comes from the environment's profile.

    `null` switches a limit off: the number is recorded and never judged.
    """

    latency: DurationLimit | UnsetType | None = UNSET
    connections: RatioLimit | UnsetType | None = UNSET
    clock_skew: DurationLimit | UnsetType | None = UNSET
    idle_in_transaction: DurationLimit | UnsetType | None = UNSET
    longest_transaction: DurationLimit | UnsetType | None = UNSET
    lock_wait: DurationLimit | UnsetType | None = UNSET
    deadlocks_per_minute: CountLimit | UnsetType | None = UNSET
    rollbacks: RatioLimit | UnsetType | None = UNSET
    cache_misses: RatioLimit | UnsetType | None = UNSET
    replay_bytes: SizeLimit | UnsetType | None = UNSET
    replay_age: DurationLimit | UnsetType | None = UNSET
    receiver_gone: DurationLimit | UnsetType | None = UNSET
    sync_wait: DurationLimit | UnsetType | None = UNSET
    slot_inactive: DurationLimit | UnsetType | None = UNSET
    slot_retained: SizeLimit | UnsetType | None = UNSET
    wraparound: RatioLimit | UnsetType | None = UNSET
    oldest_snapshot: DurationLimit | UnsetType | None = UNSET
    archiver_failing: DurationLimit | UnsetType | None = UNSET
    requested_checkpoints: RatioLimit | UnsetType | None = UNSET
    sequences: RatioLimit | UnsetType | None = UNSET
    canary: DurationLimit | UnsetType | None = UNSET
    statement_slowdown: CountLimit | UnsetType | None = UNSET


_MB: Final = 2**20
_PROFILES: Final[dict[str, Thresholds]] = {
    "development": Thresholds(
        latency=seconds(2, 5),
        connections=shares(0.90, 1.0),
        clock_skew=None,
        idle_in_transaction=None,
        longest_transaction=None,
        lock_wait=None,
        deadlocks_per_minute=None,
        rollbacks=None,
        cache_misses=None,
        replay_bytes=None,
        replay_age=None,
        receiver_gone=None,
        sync_wait=None,
        slot_inactive=None,
        slot_retained=None,
        wraparound=shares(0.50, 0.75),
        oldest_snapshot=None,
        archiver_failing=None,
        requested_checkpoints=None,
        sequences=None,
        canary=None,
        statement_slowdown=None,
    ),
    "staging": Thresholds(
        latency=seconds(1, 2),
        connections=shares(0.80, 0.95),
        clock_skew=seconds(2, 10),
        idle_in_transaction=seconds(900, None),
        longest_transaction=seconds(600, None),
        lock_wait=seconds(60, None),
        deadlocks_per_minute=counts(5, None),
        rollbacks=shares(0.20, None),
        cache_misses=None,
        replay_bytes=sizes(100 * _MB, None),
        replay_age=seconds(30, None),
        receiver_gone=seconds(None, 60),
        sync_wait=seconds(None, 10),
        slot_inactive=seconds(1800, None),
        slot_retained=None,
        wraparound=shares(0.50, 0.75),
        oldest_snapshot=seconds(3600, None),
        archiver_failing=seconds(900, None),
        requested_checkpoints=None,
        sequences=shares(0.85, 0.95),
        canary=seconds(2, None),
        statement_slowdown=None,
    ),
    "production": Thresholds(
        latency=seconds(0.5, 2),
        connections=shares(0.75, 0.90),
        clock_skew=seconds(0.5, 2),
        idle_in_transaction=seconds(300, 900),
        longest_transaction=seconds(120, 900),
        lock_wait=seconds(10, 60),
        deadlocks_per_minute=counts(1, 5),
        rollbacks=shares(0.10, 0.30),
        cache_misses=shares(0.02, None),
        replay_bytes=sizes(50 * _MB, 100 * _MB),
        replay_age=seconds(10, 30),
        receiver_gone=seconds(10, 30),
        sync_wait=seconds(5, 10),
        slot_inactive=seconds(600, None),
        slot_retained=sizes(1024 * _MB, None),
        wraparound=shares(0.40, 0.60),
        oldest_snapshot=seconds(300, 3600),
        archiver_failing=seconds(120, 900),
        requested_checkpoints=shares(0.50, None),
        sequences=shares(0.75, 0.90),
        canary=seconds(0.5, 2),
        statement_slowdown=counts(5, None),
    ),
}


def effective(environment: str, profile: Profile, written: Thresholds) -> Thresholds:
    """Every limit decided: those written over those of the profile. No field is UNSET afterwards."""
    return over_defaults(written, _PROFILES[profile_of(environment, profile)])
