"""A broker's table in gaia.yaml."""

from __future__ import annotations

import ssl

import msgspec

from checks.base_url import check_base
from checks.limits import Profile
from checks.nats.place import Place, parse_urls
from checks.nats.thresholds import Thresholds
from checks.secret import Secret
from checks.units import Duration, Size


class NatsOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to look at one NATS server or cluster.

    `url`: one URL, or several with commas: then each server is looked at and the cluster is judged.
    `monitor_url`: the HTTP monitoring port of each server, in the same order. None: less is known.
    `jetstream`: whether it must be there; its streams and consumers are judged then.
    `cluster_size`: how many servers there should be. None: as many as `url` names.
    `slower_than`: greeting, log-in and round trip together; over it the broker is degraded.
    `hold`: keep one connection to each server as a sentinel. False where a server may sleep.
    `isolated`: two URLs (two developers) that must not read each other's messages.
    `services`: names of NATS micro services that must answer. `answers`: request subjects that must.
    `canary`: how often a message is stored in and read from a small stream of our own.
    `leaf_nodes`: names of servers that must be connected as leaf nodes, to any server here.
    `gateways`: names of the clusters that every server here must have a gateway to.
    `memory`: what each server's machine has. None: only the server's own GOMEMLIMIT is judged, if it has one.
    `account_connections`: how many connections one account (one developer) may hold over all servers.
    """

    url: Secret
    monitor_url: str | None = None
    jetstream: bool = False
    cluster_size: int | None = None
    slower_than: Duration | None = None
    profile: Profile = "auto"
    thresholds: Thresholds = Thresholds()
    ca_file: str = ""
    credentials_file: str = ""
    hold: bool = True
    heartbeat: Duration = Duration(1.0)
    answer_within: Duration = Duration(1.0)
    isolated: tuple[Secret, ...] = ()
    services: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    canary: Duration | None = None
    leaf_nodes: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    memory: Size | None = None
    account_connections: int | None = None

    def __post_init__(self) -> None:
        for url in self.monitors():
            check_base(url, key="monitor_url")

    def places(self) -> tuple[Place, ...]:
        """Raises ValueError when `url` is not a list of NATS URLs."""
        places = parse_urls(self.url)
        if not places:
            raise ValueError("url names no NATS server")
        return places

    def monitors(self) -> tuple[str, ...]:
        return tuple(url.strip().rstrip("/") for url in (self.monitor_url or "").split(",") if url.strip())

    def tls_context(self) -> ssl.SSLContext:
        """TLS 1.2 or later, verified. Raises OSError when `ca_file` cannot be read."""
        context = ssl.create_default_context(cafile=self.ca_file or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context
