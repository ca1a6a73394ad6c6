"""The telemetry tables of gaia.yaml, and what the intake may take of the machine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from agent.telemetry.signals import Signal
from checks.secret import Secret
from checks.units import Duration, Ratio, Size

_MIB: Final = 1024 * 1024
# What is filled in from the table `agent`: no keys of `telemetry`.
LISTENS: Final = ("listen", "grpc_listen")


Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


class DestinationOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where telemetry is passed on to.

    `url` is an OTLP/HTTP address without its `/v1/…` (Tempo, a Collector, `http://loki:3100/otlp`), or with
    `kind: loki` Loki's own address. `max_age` puts records aside that the backend would refuse as too old.
    When the oldest record has waited for `late_after`, the destination counts as degraded.
    """

    url: str
    kind: Literal["otlp", "loki"] = "otlp"
    signals: tuple[Signal, ...] = (Signal.TRACES, Signal.METRICS, Signal.LOGS)
    headers: dict[str, Secret] = {}
    timeout: Duration = Duration(10)
    batch: Size = Size(_MIB)
    max_age: Duration | None = None
    late_after: Duration = Duration(300)


class FlyLogsOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fly.io's log stream: `org` is the organisation's slug, `token` one that may only read."""

    org: str
    token: Secret
    address: str = "[fdaa::3]:4223"
    subject: str = "logs.>"

    @property
    def host(self) -> str:
        """The address without its port and brackets."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The address's port."""
        return int(self.address.rpartition(":")[2])


class IntakeOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is taken in and passed on. Limits hold for a body as it comes and after decompression.

    `per_client` is how much one address may send each second; a client beyond it is told to wait (429).

    `follow` names JSON log files by their service, "" for files whose lines tell theirs; lines read there and
    from Fly.io are kept from `log_level` upwards, access lines always. `own_traces` is the share of the
    agent's own looks that go the same way as spans, together with all that failed, and `own_logs` the level
    from which its log lines do.
    """

    listen: str | None = "127.0.0.1:4318"
    grpc_listen: str | None = None
    token: Secret | None = None
    request: Size = Size(64 * _MIB)
    in_flight: Size = Size(64 * _MIB)
    per_client: Size | None = None
    disk: Size = Size(1024 * _MIB)
    keep_free: Size = Size(256 * _MIB)
    slower_than: tuple[Duration, ...] = (Duration(2),)
    destinations: dict[str, DestinationOptions] = {}
    follow: dict[str, tuple[str, ...]] = {}
    fly_logs: FlyLogsOptions | None = None
    log_level: Level = "DEBUG"
    own_traces: Ratio = Ratio(0)
    own_logs: Level | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing would ever come in."""
        own = self.own_traces or self.own_logs
        return not (self.listen or self.grpc_listen or self.follow or self.fly_logs or own)


def place_of(listen: str) -> tuple[str, int]:
    """Host, brackets of IPv6 taken off, and port of an address to listen on; port 0 takes a free one."""
    host, _, port = listen.rpartition(":")
    return host.strip("[]") or "127.0.0.1", int(port)


def following(options: IntakeOptions, files: Iterable[tuple[str, str]]) -> IntakeOptions:
    """`options` with more files to follow: pairs of service and path."""
    follow = dict(options.follow)
    for service, path in files:
        follow[service] = tuple(dict.fromkeys((*follow.get(service, ()), path)))
    return msgspec.structs.replace(options, follow=follow)


def fitted(options: IntakeOptions, *, memory_bytes: int) -> IntakeOptions:
    """Limits no larger than the machine can bear: one request may take a sixteenth of its memory."""
    cap = max(memory_bytes // 16, 4 * _MIB)
    return msgspec.structs.replace(
        options, request=Size(min(options.request, cap)), in_flight=Size(min(options.in_flight, cap))
    )
