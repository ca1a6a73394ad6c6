"""Leaf nodes and gateways: which should be connected and are not. Pure; the names come from gaia.yaml."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from checks.finding import Measure, State
from checks.problem import Problem
from checks.reason import Reason


class Leaf(msgspec.Struct, frozen=True, kw_only=True):
    """One leaf connection. `is_spoke`: the other side is the hub, and we are the leaf."""

    name: str = ""
    account: str = ""
    is_spoke: bool = False


class Leafz(msgspec.Struct, frozen=True, kw_only=True):
    """/leafz of one server."""

    leafs: tuple[Leaf, ...] = ()

    def names(self) -> set[str]:
        return {leaf.name for leaf in self.leafs if leaf.name}


class Gatewayz(msgspec.Struct, frozen=True, kw_only=True):
    """/gatewayz of one server. The outbound connections are the ones messages leave by."""

    name: str = ""
    outbound_gateways: dict[str, msgspec.Raw] = {}
    inbound_gateways: dict[str, msgspec.Raw] = {}


def leaf_nodes(expected: tuple[str, ...], by_server: Mapping[str, Leafz]) -> Iterator[Problem]:
    """A leaf node may connect to any server of the cluster, so all of them together are asked."""
    if not by_server:
        return
    there = set[str]().union(*(leafz.names() for leafz in by_server.values()))
    gone = [name for name in expected if name not in there]
    if gone:
        words = (
            f"{len(gone)} of {len(expected)} leaf nodes are not connected ({', '.join(gone)}): "
            "what runs behind them is cut off; see their logs and the way to the leaf port"
        )
        yield Problem(state=State.DEGRADED, reason=Reason.NATS_LEAF_MISSING, message=words, urgent=True)


def gateways(expected: tuple[str, ...], by_server: Mapping[str, Gatewayz]) -> Iterator[Problem]:
    """Each server keeps a gateway of its own to each cluster; its clients' messages leave by no other."""
    for cluster in expected:
        without = [
            server
            for server, gatewayz in by_server.items()
            if cluster not in gatewayz.outbound_gateways and cluster != gatewayz.name
        ]
        if without:
            words = (
                f"no gateway to cluster {cluster} from {', '.join(without)}: messages of clients there do "
                "not reach it; see both clusters' gateway ports"
            )
            yield Problem(
                state=State.DEGRADED, reason=Reason.NATS_GATEWAY_MISSING, message=words, urgent=True
            )


def leaf_measures(leafz: Leafz, server: str) -> Measure:
    return Measure(
        name="gaia_nats_leaf_nodes",
        value=float(sum(not leaf.is_spoke for leaf in leafz.leafs)),
        labels=(("server", server),),
    )


def gateway_measures(gatewayz: Gatewayz, server: str) -> Measure:
    return Measure(
        name="gaia_nats_gateways", value=float(len(gatewayz.outbound_gateways)), labels=(("server", server),)
    )
