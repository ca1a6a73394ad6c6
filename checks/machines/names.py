"""The private network's TXT records: which machines are started and deployed. Wakes nothing, no token."""

from __future__ import annotations

import time

from msgspec import Struct

from checks.dns.exchange import ask
from checks.wire.fault import DeadlinePassed, Fault
from checks.wire.journey import Journey


class Roll(Struct, frozen=True, kw_only=True):
    """Machine ids by what DNS says; `.internal` knows started ones within five seconds."""

    started: frozenset[str]
    deployed: frozenset[str]


class NamesUnknownError(Exception):
    """The name server did not say."""


async def roll(app: str, *, server: str, port: int, within_s: float) -> Roll:
    """Raises NamesUnknownError."""
    return Roll(
        started=await _ids(f"vms.{app}.internal", server, port, within_s),
        deployed=await _ids(f"all.vms.{app}.internal", server, port, within_s),
    )


async def addresses(name: str, *, server: str, port: int, within_s: float) -> frozenset[str]:
    """The IPv6 addresses of a private name, unfiltered by any cache. Raises NamesUnknownError."""
    return frozenset(await _records(name, "AAAA", server, port, within_s))


async def _ids(name: str, server: str, port: int, within_s: float) -> frozenset[str]:
    """A record reads `id region,id region`. A name without records has no machines."""
    texts = await _records(name, "TXT", server, port, within_s)
    pairs = (part.split() for text in texts for part in text.split(","))
    return frozenset(pair[0] for pair in pairs if pair)


async def _records(name: str, kind: str, server: str, port: int, within_s: float) -> tuple[str, ...]:
    journey = Journey(deadline_s=time.monotonic() + within_s)
    try:
        message = await ask(
            server, port, name=name, record_type=kind, transport="udp", recursion=True, journey=journey
        )
    except (Fault, DeadlinePassed, OSError) as error:
        raise NamesUnknownError(f"{name}: {type(error).__name__}") from error
    if message.rcode not in ("NOERROR", "NXDOMAIN"):
        raise NamesUnknownError(f"{name}: {message.rcode}")
    return tuple(record.data for record in message.answers if record.type == kind)
