"""Every kind of check there is, by name; a kind's module is imported when it is first used."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, runtime_checkable

import msgspec
from msgspec import Struct, field

from checks.apps import Apps
from checks.check import Check, Sentinel
from checks.clock import Clock
from checks.target import Target
from checks.trace import TraceIds

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

ENTRY_POINT_GROUP: Final = "gaia.checks"

# One line per kind: the name written in gaia.yaml and the module that exposes its KIND.
MODULES: Final[dict[str, str]] = {
    "http": "checks.http",
    "tls": "checks.tls",
    "tcp": "checks.tcp",
    "dns": "checks.dns",
    "exec": "checks.exec",
    "postgres": "checks.postgres.kind",
    "nats": "checks.nats.kind",
    "host": "checks.host.check",
    "machines": "checks.machines.check",
    "network": "checks.network.check",
    "backups": "checks.backups",
}


class MeasureInfo(Struct, frozen=True, kw_only=True):
    """A series a check may emit through `Finding.measures`, beside `env, service, check, vantage`.

    A histogram is emitted as its parts, `_bucket` with the label `le`, `_count` and `_sum`.
    """

    name: str
    type: Literal["gauge", "counter", "histogram"]
    help: str
    labels: tuple[str, ...] = ()

    @property
    def series(self) -> dict[str, tuple[str, ...]]:
        """Each series' name and labels."""
        if self.type != "histogram":
            return {self.name: self.labels}
        return {
            f"{self.name}_bucket": (*self.labels, "le"),
            f"{self.name}_count": self.labels,
            f"{self.name}_sum": self.labels,
        }


class Resolver(Protocol):
    """Name resolution with its own bounded resources, shared by all checks of a process."""

    def known(self, host: str) -> tuple[str, ...] | None:
        """What `addresses` would say, where nobody has to be asked; else None. Raises socket.gaierror."""
        ...

    async def addresses(self, host: str) -> tuple[str, ...]:
        """IP addresses of `host`, IPv6 and IPv4, in order of preference. Raises socket.gaierror."""
        ...


@runtime_checkable
class Closable(Protocol):
    """Something with resources to give back."""

    async def close(self) -> None: ...


class ProbeKit(Struct, frozen=True, kw_only=True):
    """What the checks of one process share."""

    clock: Clock
    resolver: Resolver
    apps: Apps = field(default_factory=Apps)
    trace_ids: TraceIds = field(default_factory=TraceIds)


class CheckKind(Struct, frozen=True, kw_only=True):
    """A kind of check: its table in gaia.yaml, what it measures, and how it is built.

    `options` is a frozen msgspec Struct; `build` gets an instance of exactly that class. `sentinel`
    gives None where nothing is to be held open. `taskless` says that its probe waits on wires only, or after
    `await in_task()`: such a look costs no task. `needs` names the modules that `build`, `sentinel`
    or the first look imports: validating a file needs none of them.
    """

    name: str
    options: type[msgspec.Struct]
    build: Callable[[Target, Any, ProbeKit], Check]  # Any: each kind takes its own options class.
    measures: tuple[MeasureInfo, ...] = ()
    sentinel: Callable[[Target, Any, ProbeKit], Sentinel | None] | None = None
    taskless: bool = False
    needs: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether building a check imports nothing any more."""
        return all(name in sys.modules for name in self.needs)


@cache
def kind(name: str) -> CheckKind:
    """The kind called `name`. Raises KeyError when neither the catalog nor an entry point has it."""
    path = MODULES.get(name)
    if path is not None:
        found: CheckKind = import_module(path).KIND
        return found
    for entry in _foreign():
        if entry.name == name:
            loaded: CheckKind = entry.load()
            return loaded
    raise KeyError(name)


def names() -> tuple[str, ...]:
    """Every kind's name, our own first."""
    return (*MODULES, *(entry.name for entry in _foreign()))


def _foreign() -> EntryPoints:
    # Reading the metadata of installed packages takes longer than everything else here.
    from importlib.metadata import entry_points

    return entry_points(group=ENTRY_POINT_GROUP)
