"""The table of a machines check in gaia.yaml, and the series it may emit."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from checks.base_url import check_base
from checks.catalog import MeasureInfo
from checks.limits import Profile
from checks.machines import cold_start
from checks.machines.api import Guest
from checks.secret import Secret
from checks.units import Duration, Size

_MB: Final = 2**20


class MachinesOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to look at the machines of one Fly.io app, without ever waking one.

    `minimum`: how many must be started; 0 where the app may sleep.
    `regions`: where some must be started. `memory`, `cpus`, `cpu_kind`: how large each must be, all three.
    `token`: a read-only token for the Machines API. None: DNS alone is asked, and less is known.
    `nameserver`: the private network's. `port`, `health`: asked on each started machine over the private
    network, which neither wakes nor counts as load. `port` None: not asked.
    `start_within`: how long a machine that was just started may stay silent.
    """

    app: str
    minimum: int = 0
    regions: tuple[str, ...] = ()
    memory: Size | None = None
    cpus: int | None = None
    cpu_kind: Literal["shared", "performance"] | None = None
    token: Secret | None = None
    api_url: str = "https://api.machines.dev"
    api_every: Duration = Duration(30)
    nameserver: str = "fdaa::3"
    nameserver_port: int = 53
    port: int | None = None
    health: str = "/health?shallow=1"
    start_within: Duration = Duration(60)
    profile: Profile = "auto"
    answer_within: Duration = Duration(2)

    def __post_init__(self) -> None:
        check_base(self.api_url, key="api_url")

    def size(self) -> Guest | None:
        """What each machine must be; None when that is not said whole."""
        if self.memory is None or self.cpus is None or self.cpu_kind is None:
            return None
        return Guest(cpu_kind=self.cpu_kind, cpus=self.cpus, memory_mb=self.memory // _MB)


def _gauge(name: str, text: str, *labels: str) -> MeasureInfo:
    return MeasureInfo(name=f"gaia_machine_{name}", type="gauge", help=text, labels=labels)


MEASURES: Final = (
    _gauge("started", "Machines that are started."),
    _gauge("deployed", "Machines that exist."),
    _gauge("minimum", "Machines that must be started."),
    _gauge("starts_last_day", "Starts within the last day, as far as events are kept: what waking costs."),
    _gauge("exits_last_day", "Exits within the last day, as far as events are kept."),
    _gauge("wakes_last_day", "Starts within the last day that were seen, by what came just before.", "by"),
    _gauge("awake_seconds_last_day", "Machine time started within the last day, as far as it was watched."),
    _gauge(
        "idle_seconds_last_day",
        "Of that, the time in hours without one user request; absent where requests are not known.",
    ),
    _gauge("idle_dollars_last_day", "About what those idle hours cost, by the published prices."),
    MeasureInfo(
        name=cold_start.NAME,
        type="histogram",
        help="From a woken machine's start until it was healthy; never part of the app's own latency.",
    ),
)
