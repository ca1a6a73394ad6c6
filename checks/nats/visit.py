"""One fresh visit to one NATS server: how far it came, how long it took, the open link for more."""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl

from msgspec import Struct

from checks.catalog import ProbeKit
from checks.finding import Finding, Phase, PhaseTime
from checks.nats import faults
from checks.nats.credentials import Credentials
from checks.nats.link import Link
from checks.nats.place import Place


class Entry(Struct, frozen=True, kw_only=True):
    """What it takes to enter a server beside its place."""

    credentials: Credentials | None = None
    context: ssl.SSLContext | None = None


class Visit(Struct, frozen=True, kw_only=True):
    """Either `link` is open and the caller closes it, or `failure` says why not."""

    place: Place
    link: Link | None = None
    failure: Finding | None = None
    phases: tuple[PhaseTime, ...] = ()
    latency_s: float = 0.0


async def visit(place: Place, entry: Entry, kit: ProbeKit, *, answer_within_s: float) -> Visit:
    """Resolve, connect, be greeted, log in, PING, PONG. Never raises OSError or TimeoutError."""
    clock = kit.clock
    times = [clock.monotonic_s()]
    link: Link | None = None
    failure: Finding
    try:
        async with asyncio.timeout(answer_within_s):
            addresses = await kit.resolver.addresses(place.host)
        times.append(clock.monotonic_s())
        async with asyncio.timeout(answer_within_s):
            link = await reach(addresses, place.port)
        times.append(clock.monotonic_s())
        async with asyncio.timeout(answer_within_s):
            await link.enter(place, credentials=entry.credentials, context=entry.context)
        times.append(clock.monotonic_s())
    except TimeoutError:
        failure = faults.silent(place, waited_s=answer_within_s, connected=link is not None)
    except faults.LINK_FAILURES as error:
        failure = faults.from_failure(error, place)
    except OSError as error:
        failure = faults.from_os_error(error, place)
    except BaseException:
        if link is not None:
            link.close()
        raise
    else:
        return Visit(place=place, link=link, phases=_phases(times), latency_s=times[-1] - times[0])
    if link is not None:
        link.close()
    return Visit(place=place, failure=failure, phases=_phases(times))


async def reach(addresses: tuple[str, ...], port: int) -> Link:
    """The first address that takes a connection. Raises the last OSError when none does."""
    last: OSError = socket.gaierror(socket.EAI_NONAME, "the name has no address")
    for address in addresses:
        try:
            return await Link.connect(address, port)
        except OSError as error:
            last = error
    raise last


def _phases(times: list[float]) -> tuple[PhaseTime, ...]:
    names = (Phase.RESOLVE, Phase.CONNECT, Phase.PROCESSING)
    spans = itertools.pairwise(times)
    return tuple(
        PhaseTime(phase=name, duration_s=end - start)
        for name, (start, end) in zip(names, spans, strict=False)
    )
