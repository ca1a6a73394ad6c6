"""One server's monitoring port, read whole: what it says of itself, its routes, neighbours and accounts."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
from msgspec import Struct

from checks.clock import Clock
from checks.nats import jetstream
from checks.nats.accounts import Accstatz
from checks.nats.cluster import Routez
from checks.nats.jetstream import Jsz
from checks.nats.neighbours import Gatewayz, Leafz
from checks.nats.options import NatsOptions
from checks.nats.server import Closed, Connz, Health, Server, Varz
from checks.small_get import SmallGet

_CLOSED: Final = "/connz?state=closed&sort=stop&limit=50"
# Our own visits, the sentinel's and the health checks of others come and go with every look.
_USUAL_NEWCOMERS: Final = 2


class Monitored(Struct, frozen=True, kw_only=True):
    """What one server said. `leafz`, `gatewayz` None: not asked, since nothing is expected of them."""

    server: Server
    routez: Routez
    accstatz: Accstatz
    jsz: Jsz | None = None
    leafz: Leafz | None = None
    gatewayz: Gatewayz | None = None


async def read(monitor: SmallGet, options: NatsOptions, clock: Clock, *, before: Server | None) -> Monitored:
    """Everything at once, each on its own connection. Raises OSError, ValueError or TimeoutError."""

    async def nothing() -> None:
        return None

    async with asyncio.timeout(float(options.answer_within)):
        varz, health, routes, accounts, leafs, gates = await asyncio.gather(
            monitor.get("/varz"),
            monitor.get("/healthz?details=true"),
            monitor.get("/routez"),
            monitor.get("/accstatz"),
            monitor.get("/leafz") if options.leaf_nodes else nothing(),
            monitor.get("/gatewayz") if options.gateways else nothing(),
        )
        decoded = msgspec.json.decode(varz.body, type=Varz)
        jsz = None
        if options.jetstream and decoded.has_jetstream:
            jsz = await jetstream.read_jsz(monitor)
        closed: tuple[Closed, ...] = ()
        if before is not None and _lost_clients(decoded, before.varz):
            listed = await monitor.get(_CLOSED)
            closed = msgspec.json.decode(listed.body, type=Connz).connections
    return Monitored(
        server=Server(
            varz=decoded,
            at_s=clock.monotonic_s(),
            wall_s=clock.wall_s(),
            ready=health.status == 200,
            ready_text=_health_words(health.body),
            closed=closed,
        ),
        routez=msgspec.json.decode(routes.body, type=Routez),
        accstatz=msgspec.json.decode(accounts.body, type=Accstatz),
        jsz=jsz,
        leafz=None if leafs is None else msgspec.json.decode(leafs.body, type=Leafz),
        gatewayz=None if gates is None else msgspec.json.decode(gates.body, type=Gatewayz),
    )


def _lost_clients(now: Varz, before: Varz) -> bool:
    """Whether it is worth asking who was cut or turned away."""
    newcomers = now.total_connections - before.total_connections
    return now.slow_consumers > before.slow_consumers or newcomers > _USUAL_NEWCOMERS


def _health_words(body: bytes) -> str:
    """What /healthz complains of, as words; the body itself where it has another shape."""
    try:
        told = msgspec.json.decode(body, type=Health)
    except msgspec.MsgspecError:
        return body.decode(errors="replace")[:200]
    return told.words()[:200] or body.decode(errors="replace")[:200]
