"""How many servers of a cluster are there, and what JetStream can still do with them: pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from checks.finding import State
from checks.limits import chosen
from checks.nats.jetstream import Jsz
from checks.nats.thresholds import Thresholds
from checks.problem import Problem, over
from checks.reason import Reason
from checks.units import Duration


class Route(msgspec.Struct, frozen=True, kw_only=True):
    remote_name: str = ""


class Routez(msgspec.Struct, frozen=True, kw_only=True):
    """/routez. Routes are pooled, several to each peer, so peers are counted by name."""

    server_name: str = ""
    routes: tuple[Route, ...] = ()

    def names(self) -> set[str]:
        return {route.remote_name for route in self.routes if route.remote_name} | {self.server_name}


def size(*, alive: int, expected: int, lost: str, jetstream: bool) -> Iterator[Problem]:
    """`lost` names the missing ones as well as they are known."""
    if alive >= expected:
        return
    missing = f"{expected - alive} of {expected} servers lost" + (f" ({lost})" if lost else "")
    quorum = expected // 2 + 1
    if alive < quorum and jetstream:
        words = f"JetStream has no quorum: {missing}, {quorum} are needed; core messages still pass"
        yield Problem(state=State.DOWN, reason=Reason.JS_NO_QUORUM, message=words, urgent=True, hard=True)
    elif alive == quorum and jetstream:
        words = f"{missing}: one more failure stops every write to JetStream; start it again"
        yield Problem(state=State.DEGRADED, reason=Reason.JS_REDUNDANCY_LOST, message=words, urgent=True)
    else:
        words = f"the cluster is smaller than it should be: {missing}; start it again"
        yield Problem(state=State.DEGRADED, reason=Reason.NATS_CLUSTER_SIZE, message=words, urgent=True)


def peers(by_name: dict[str, Jsz], limits: Thresholds) -> Iterator[Problem]:
    """What the meta leader says of the others; followers show healthy peers as not current."""
    for name, jsz in by_name.items():
        group = jsz.meta_cluster
        if group is None or group.leader != name:
            continue
        for peer in group.replicas:
            seen_s = peer.active / 1e9
            yield from over(
                chosen(limits.peer_seen),
                seen_s,
                Reason.JS_PEER_LAG,
                lambda at, name=name, peer=peer, seen_s=seen_s: (  # type: ignore[misc]  # bound per turn.
                    f"the meta leader {name} has not heard {peer.name} for {seen_s:.0f} s "
                    f"(limit {Duration(at)})"
                ),
            )
            yield from over(
                chosen(limits.peer_lag),
                peer.lag,
                Reason.JS_PEER_LAG,
                lambda at, name=name, peer=peer: (  # type: ignore[misc]  # bound per turn.
                    f"peer {peer.name} is {peer.lag} operations behind the meta leader {name} (limit {at:g})"
                ),
            )
