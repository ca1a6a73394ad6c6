"""The table of a network check in gaia.yaml, and the series it may emit."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from checks.base_url import check_base
from checks.catalog import MeasureInfo
from checks.limits import Profile
from checks.network.thresholds import Thresholds
from checks.units import Duration

Route = Literal["private", "proxy", "public"]


class Way(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way: `private` is one machine on the private network, `proxy` is flycast, `public` is the edge.

    `region`: where it leads; empty: near. `local`: it leads to the agent's own machine.
    """

    name: str
    url: str
    route: Route
    region: str = ""
    local: bool = False

    def __post_init__(self) -> None:
        check_base(self.url, key="url")


class NetworkOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ways to one app. `may_sleep`: only private ways are tried then, for the others wake it.

    `app`, `port`, `path`: with the first two, each started machine of this Fly.io app is a private way of its
    own, as the machines check beside it lists them; and the name <app>.internal is compared with that list.
    `region`, `machine`: where the agent itself is, such as "${FLY_REGION:-}" and "${FLY_MACHINE_ID:-}".
    """

    ways: tuple[Way, ...] = ()
    may_sleep: bool = False
    app: str = ""
    port: int | None = None
    path: str = "/health?shallow=1"
    region: str = ""
    machine: str = ""
    timeout: Duration = Duration(2)
    nameserver: str = "fdaa::3"
    nameserver_port: int = 53
    thresholds: Thresholds = Thresholds()
    profile: Profile = "auto"


def _gauge(name: str, text: str) -> MeasureInfo:
    return MeasureInfo(name=f"gaia_network_{name}", type="gauge", help=text, labels=("way", "route"))


MEASURES: Final = (
    _gauge("way_up", "1 when the way was gone to its end."),
    _gauge("dns_seconds", "Time to the addresses."),
    _gauge("connect_seconds", "Time to a connection."),
    _gauge("tls_seconds", "Time of the TLS handshake."),
    _gauge("ttfb_seconds", "Time to the answer's first byte."),
    _gauge("loss_ratio", "Share of the last twenty tries that were lost."),
    _gauge("usual_connect_seconds", "Median time to a connection over the last day, into another region."),
    _gauge("certificate_expiry_timestamp_seconds", "When the certificate on this way ends, Unix seconds."),
)
