"""From where on a NATS signal is worth a word, per environment: what operators use, as defaults."""

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
    """Every limit of the NATS signals; what is not written comes from the environment's profile.

    `null` switches a limit off: the number is recorded and never judged. `certificate_left` is the other
    way round: less time is worse. `account_use`: of an account's connections, JetStream memory and storage.
    `traffic_lost`: the share of the usual message rate that is missing.
    """

    latency: DurationLimit | UnsetType | None = UNSET
    connections: RatioLimit | UnsetType | None = UNSET
    memory: RatioLimit | UnsetType | None = UNSET
    cpu: RatioLimit | UnsetType | None = UNSET
    traffic_lost: RatioLimit | UnsetType | None = UNSET
    rejected_per_minute: CountLimit | UnsetType | None = UNSET
    slow_consumers_per_minute: CountLimit | UnsetType | None = UNSET
    stale_per_minute: CountLimit | UnsetType | None = UNSET
    storage: RatioLimit | UnsetType | None = UNSET
    stream_fill: RatioLimit | UnsetType | None = UNSET
    account_use: RatioLimit | UnsetType | None = UNSET
    consumer_stalled: DurationLimit | UnsetType | None = UNSET
    ack_age: DurationLimit | UnsetType | None = UNSET
    pending_growing: DurationLimit | UnsetType | None = UNSET
    drain_time: DurationLimit | UnsetType | None = UNSET
    peer_seen: DurationLimit | UnsetType | None = UNSET
    peer_lag: CountLimit | UnsetType | None = UNSET
    not_ready: DurationLimit | UnsetType | None = UNSET
    source_lag: CountLimit | UnsetType | None = UNSET
    source_seen: DurationLimit | UnsetType | None = UNSET
    canary: DurationLimit | UnsetType | None = UNSET
    certificate_left: DurationLimit | UnsetType | None = UNSET


_DAY_S: Final = 86400
_PROFILES: Final[dict[str, Thresholds]] = {
    "development": Thresholds(
        latency=seconds(0.5, 1),
        connections=shares(0.90, 1.0),
        memory=shares(0.85, 0.95),
        cpu=shares(0.85, 0.95),
        traffic_lost=None,
        rejected_per_minute=None,
        slow_consumers_per_minute=None,
        stale_per_minute=None,
        storage=shares(0.90, 0.98),
        stream_fill=None,
        account_use=shares(0.75, 0.90),
        consumer_stalled=None,
        ack_age=None,
        pending_growing=None,
        drain_time=None,
        peer_seen=None,
        peer_lag=None,
        not_ready=None,
        source_lag=None,
        source_seen=None,
        canary=None,
        certificate_left=None,
    ),
    "staging": Thresholds(
        latency=seconds(0.25, 1),
        connections=shares(0.80, 0.95),
        memory=shares(0.80, 0.90),
        cpu=shares(0.80, 0.90),
        traffic_lost=None,
        rejected_per_minute=None,
        slow_consumers_per_minute=counts(1, None),
        stale_per_minute=None,
        storage=shares(0.75, 0.90),
        stream_fill=None,
        account_use=None,
        consumer_stalled=seconds(600, None),
        ack_age=None,
        pending_growing=seconds(600, None),
        drain_time=None,
        peer_seen=None,
        peer_lag=None,
        not_ready=seconds(None, 30),
        source_lag=None,
        source_seen=None,
        canary=seconds(None, 1),
        certificate_left=seconds(14 * _DAY_S, 3 * _DAY_S),
    ),
    "production": Thresholds(
        latency=seconds(0.1, 0.5),
        connections=shares(0.75, 0.90),
        memory=shares(0.75, 0.90),
        cpu=shares(0.75, 0.90),
        traffic_lost=shares(0.99, None),
        rejected_per_minute=counts(5, None),
        slow_consumers_per_minute=counts(1, 10),
        stale_per_minute=counts(5, None),
        storage=shares(0.75, 0.90),
        stream_fill=shares(0.90, 1.0),
        account_use=shares(0.75, 0.90),
        consumer_stalled=seconds(None, 60),
        ack_age=seconds(300, None),
        pending_growing=seconds(600, None),
        drain_time=seconds(900, None),
        peer_seen=seconds(5, 30),
        peer_lag=counts(200, None),
        not_ready=seconds(None, 5),
        source_lag=counts(1000, None),
        source_seen=seconds(60, None),
        canary=seconds(0.25, 1),
        certificate_left=seconds(30 * _DAY_S, 7 * _DAY_S),
    ),
}


def effective(environment: str, profile: Profile, written: Thresholds) -> Thresholds:
    """Every limit decided: those written over those of the profile. No field is UNSET afterwards."""
    return over_defaults(written, _PROFILES[profile_of(environment, profile)])
