"""One way tried once: name, connect, TLS, first byte; each timed on its own."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

from checks.catalog import ProbeKit
from checks.reason import Reason

_PORTS = {"http": 80, "https": 443}
_LOCAL = "127.0.0.1"


class Trip(Struct, frozen=True, kw_only=True):
    """How far one try came. A step that did not end has no time; `failure` None means that all did."""

    times: tuple[tuple[str, float], ...]
    addresses: tuple[str, ...] = ()
    failure: Reason | None = None
    why: str = ""
    certificate_ends_s: float | None = None
    certificate_left_s: float | None = None


async def travel(url: str, kit: ProbeKit, *, within_s: float, local: bool) -> Trip:
    """`local`: the machine is our own, so a refusal can be told from an app bound to IPv4 only."""
    trip = _Traveller(urlsplit(url), kit)
    try:
        async with asyncio.timeout(within_s):
            await trip.through()
    except TimeoutError:
        return trip.ended(*_timed_out(trip.step))
    except ssl.SSLError as error:
        return trip.ended(Reason.TLS_PROTOCOL, f"the TLS handshake failed ({error.reason or error})")
    except socket.gaierror as error:
        return trip.ended(Reason.NET_DNS_NXDOMAIN, f"the name is not known ({error.strerror})")
    except ConnectionRefusedError:
        if local and await _answers_locally(trip.port):
            return trip.ended(
                Reason.NET_BIND_IPV4_ONLY,
                "is refused while 127.0.0.1 answers: the app must listen on ::, not on 0.0.0.0",
            )
        return trip.ended(Reason.CONNECTION_REFUSED, "is refused: nobody listens")
    except ConnectionError:
        return trip.ended(Reason.CONNECTION_RESET, "resets the connection")
    except OSError as error:
        known = error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH)
        why = "has no route" if known else f"fails ({error.strerror or error})"
        return trip.ended(Reason.UNREACHABLE, why)
    return trip.ended(None, "")


class _Traveller:
    def __init__(self, parts: SplitResult, kit: ProbeKit) -> None:
        self._parts = parts
        self._kit = kit
        self._times: list[tuple[str, float]] = []
        self._addresses: tuple[str, ...] = ()
        self._ends_s: float | None = None
        self.step = "dns"
        self.port = parts.port or _PORTS.get(parts.scheme, 80)

    def ended(self, failure: Reason | None, why: str) -> Trip:
        left_s = None if self._ends_s is None else self._ends_s - self._kit.clock.wall_s()
        return Trip(
            times=tuple(self._times),
            addresses=self._addresses,
            failure=failure,
            why=why,
            certificate_ends_s=self._ends_s,
            certificate_left_s=left_s,
        )

    async def through(self) -> None:
        now = self._kit.clock.monotonic_s
        host = self._parts.hostname or ""
        started = now()
        self._addresses = await self._kit.resolver.addresses(host)
        started = self._did("dns", started, "connect")
        reader, writer = await asyncio.open_connection(self._addresses[0], self.port)
        try:
            started = self._did("connect", started, "tls")
            if self._parts.scheme == "https":
                context = ssl.create_default_context()
                await writer.start_tls(context, server_hostname=host)
                self._ends_s = _ends(writer)
                started = self._did("tls", started, "ttfb")
            self.step = "ttfb"
            path = (self._parts.path or "/") + (f"?{self._parts.query}" if self._parts.query else "")
            writer.write(f"GET {path} HTTP/1.0\r\nHost: {host}\r\nX-Gaia-Probe: 1\r\n\r\n".encode())
            if not await reader.read(1):
                raise ConnectionResetError("closed without an answer")
            self._did("ttfb", started, "done")
        finally:
            writer.transport.abort()

    def _did(self, step: str, started: float, following: str) -> float:
        now = self._kit.clock.monotonic_s()
        self._times.append((step, now - started))
        self.step = following
        return now


def _ends(writer: asyncio.StreamWriter) -> float | None:
    """The Unix second at which the peer's certificate ends."""
    told: dict[str, str] = writer.get_extra_info("peercert") or {}
    return ssl.cert_time_to_seconds(told["notAfter"]) if "notAfter" in told else None


def _timed_out(step: str) -> tuple[Reason, str]:
    match step:
        case "dns":
            return Reason.NET_DNS_TIMEOUT, "has a name that no resolver answers for"
        case "connect":
            return Reason.NET_BLACKHOLE, "swallows the connect without an answer"
        case _:
            return Reason.TIMEOUT, f"accepts and stays silent ({step})"


async def _answers_locally(port: int) -> bool:
    try:
        async with asyncio.timeout(0.5):
            _, writer = await asyncio.open_connection(_LOCAL, port)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True
