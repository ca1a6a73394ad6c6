"""From a name to an open connection: resolve, connect with fallback, TLS, each phase timed apart."""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from functools import lru_cache
from ipaddress import ip_address
from socket import gaierror
from typing import Final, Literal

from msgspec import Struct

from checks.catalog import Resolver
from checks.finding import Phase
from checks.reason import Reason
from checks.wire.certificate import Certificate, chain_of, trusted_path
from checks.wire.expiry import day
from checks.wire.fault import DeadlinePassed, Fault, fault_of
from checks.wire.flight import in_task
from checks.wire.journey import Journey
from checks.wire.stream import Wire
from checks.wire.tls import TlsWire
from checks.wire.tls_options import TlsOptions, context_of, unverified_context_of

Family = Literal["any", "prefer_4", "prefer_6", "only_4", "only_6"]

# Shorter than this is a look into a table, not a look-up.
_TABLE_S: Final = 0.00005
# X509_V_ERR_*: openssl/x509_vfy.h.
_NOT_YET_VALID: Final = frozenset({9, 11})
_EXPIRED: Final = frozenset({10, 12})
_HOSTNAME: Final = frozenset({62, 63, 64})
_CLIENT_CERTIFICATE_ALERTS: Final = (
    "CERTIFICATE_REQUIRED",
    "ALERT_BAD_CERTIFICATE",
    "ALERT_UNKNOWN_CA",
    "ALERT_CERTIFICATE_UNKNOWN",
    "ALERT_CERTIFICATE_EXPIRED",
    "ALERT_CERTIFICATE_REVOKED",
    "ALERT_UNSUPPORTED_CERTIFICATE",
    "ALERT_ACCESS_DENIED",
)


class TlsSeen(Struct, frozen=True, kw_only=True):
    """What a handshake showed.

    `chain` is what the server sent, `trusted` the way from its first certificate to an authority we trust:
    it may leave out what was sent for older clients. It is empty when nothing was verified.
    """

    version: str
    cipher: str
    chain: tuple[Certificate, ...]
    trusted: tuple[Certificate, ...] = ()

    @property
    def needed(self) -> tuple[Certificate, ...]:
        """What was sent and counts: an expired certificate beside the way to trust troubles nobody."""
        if not self.trusted:
            return self.chain
        return tuple(one for one in self.chain if one in self.trusted)


async def resolve(host: str, family: Family, resolver: Resolver, journey: Journey) -> tuple[str, ...]:
    """The addresses of `host` in the order to try. Raises Fault."""
    if is_literal(host):
        return (host,)
    journey.begin(Phase.RESOLVE)
    started = time.monotonic()
    try:
        found = resolver.known(host)
        if found is None:
            await in_task()
            async with asyncio.timeout_at(None if journey.deadline_s == math.inf else journey.deadline_s):
                found = await resolver.addresses(host)
    except TimeoutError as error:
        raise DeadlinePassed from error
    except gaierror as error:
        raise Fault(Reason.DNS, f'has no address: the look-up of "{host}" says {error.strerror}') from error
    took_s = time.monotonic() - started
    if took_s > _TABLE_S:
        journey.end(took_s)
    else:
        journey.phase = None
    chosen = order(found, family)
    if not chosen:
        raise Fault(Reason.DNS, f'has no {"IPv4" if family == "only_4" else "IPv6"} address: "{host}"')
    return chosen


@lru_cache(maxsize=4096)
def is_literal(host: str) -> bool:
    """Whether `host` is an IP address already."""
    if not (":" in host or host[-1:].isdigit()):
        return False
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def order(addresses: tuple[str, ...], family: Family) -> tuple[str, ...]:
    """`addresses` filtered and sorted by `family`, otherwise in their order."""
    six = tuple(address for address in addresses if ":" in address)
    four = tuple(address for address in addresses if ":" not in address)
    match family:
        case "only_4":
            return four
        case "only_6":
            return six
        case "prefer_4":
            return four + six
        case "prefer_6":
            return six + four
        case "any":
            return addresses


async def connect(addresses: tuple[str, ...], port: int, journey: Journey) -> Wire:
    """Connect to the first of `addresses` that accepts. Raises Fault."""
    if len(addresses) > 1:
        # Not needed for the first verdict of most: imported when a name has several addresses.
        from checks.wire.race import race

        await in_task()
        return await race(addresses, port, journey)
    journey.begin(Phase.CONNECT)
    journey.ip = addresses[0]
    try:
        wire = await Wire.connect(addresses[0], port, deadline_s=journey.deadline_s)
    except OSError as error:
        raise fault_of(error, Phase.CONNECT) from error
    journey.end(wire.connect_s)
    return wire


async def secure(wire: Wire, name: str, options: TlsOptions, journey: Journey) -> tuple[TlsWire, TlsSeen]:
    """TLS on `wire`, which is closed when that fails. Raises Fault, after reading a bad chain once more."""
    journey.begin(Phase.TLS)
    server_name = options.server_name or name
    stream = TlsWire(wire, _context(options), server_name=server_name)
    try:
        await stream.handshake()
        journey.end(stream.handshake_s)
        return stream, seen(stream.ssl_object)
    except ssl.SSLCertVerificationError as error:
        wire.close()
        chain = await chain_unverified(wire.peer, server_name, options, journey.deadline_s)
        raise CertificateFault(error, server_name, chain) from error
    except BaseException as error:
        wire.close()
        if isinstance(error, ssl.SSLError):
            raise tls_fault(error, stream.ssl_object) from error
        if isinstance(error, OSError):
            raise fault_of(error, Phase.TLS) from error
        raise


def _context(options: TlsOptions) -> ssl.SSLContext:
    """The context for `options`. Raises Fault(config) when its files or words cannot be used."""
    try:
        return context_of(options)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        said = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        raise Fault(Reason.CONFIG, f"was not asked: tls of this check cannot be used: {said}") from error


class CertificateFault(Fault):
    """The certificate did not verify; `chain` is what the server sent all the same."""

    def __init__(
        self, error: ssl.SSLCertVerificationError, name: str, chain: tuple[Certificate, ...]
    ) -> None:
        reason, message = _verification(error, name, chain)
        super().__init__(reason, message)
        self.chain = chain


def _verification(
    error: ssl.SSLCertVerificationError, name: str, chain: tuple[Certificate, ...]
) -> tuple[Reason, str]:
    code = error.verify_code
    if code in _EXPIRED:
        until = min((certificate.not_after_s for certificate in chain), default=None)
        when = f" on {day(until)}" if until is not None else ""
        return Reason.TLS_EXPIRED, f"has a certificate that expired{when}: renew it"
    if code in _NOT_YET_VALID:
        since = max((certificate.not_before_s for certificate in chain), default=None)
        when = f" before {day(since)}" if since is not None else ""
        return Reason.TLS_NOT_YET_VALID, f"has a certificate that is not valid{when}"
    if code in _HOSTNAME:
        names = ", ".join(chain[0].names[:5]) if chain else ""
        held = f"for {names}" if names else "that names no host (SAN)"
        return Reason.TLS_HOSTNAME, f'has a certificate {held}, not for "{name}"'
    return Reason.TLS_UNTRUSTED, f"has a certificate that is not trusted ({error.verify_message})"


def tls_fault(error: ssl.SSLError, connection: ssl.SSLObject | None = None) -> Fault:
    """The fault behind an SSLError of the handshake or of a read after it."""
    code = error.reason or ""
    if any(alert in code for alert in _CLIENT_CERTIFICATE_ALERTS):
        return Fault(Reason.TLS_CLIENT_CERT, f"refuses our client certificate or wants one ({_said(error)})")
    if "HANDSHAKE_FAILURE" in code and connection is not None and _answered(connection):
        # TLS 1.2 has no alert of its own for it: the server showed its certificate and disliked ours.
        return Fault(
            Reason.TLS_CLIENT_CERT, "refuses the handshake after its certificate: it wants one of ours"
        )
    if isinstance(error, ssl.SSLEOFError) or "UNEXPECTED_EOF" in code:
        return Fault(Reason.CONNECTION_CLOSED, "closed the connection without ending TLS", hard=True)
    return Fault(Reason.TLS_PROTOCOL, f"cannot agree on TLS with us ({_said(error)})")


def _answered(connection: ssl.SSLObject) -> bool:
    """Whether the server's own certificate had come before the handshake failed."""
    try:
        return bool(chain_of(connection))
    except ValueError:  # getpeercert: the handshake is not done
        return False


def _said(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).lower().replace("_", " ")[:80]


def seen(connection: ssl.SSLObject) -> TlsSeen:
    cipher = connection.cipher()
    return TlsSeen(
        version=(connection.version() or "").replace("TLSv", "TLS "),
        cipher=cipher[0] if cipher else "",
        chain=chain_of(connection),
        trusted=trusted_path(connection),
    )


async def chain_unverified(
    peer: tuple[str, int], name: str, options: TlsOptions, deadline_s: float = math.inf
) -> tuple[Certificate, ...]:
    """The chain a server sends, trusted or not; empty when it cannot be had."""
    wire: Wire | None = None
    try:
        wire = await Wire.connect(*peer, deadline_s=deadline_s)
        stream = TlsWire(wire, unverified_context_of(options), server_name=name)
        await stream.handshake()
        return chain_of(stream.ssl_object)
    except (OSError, Fault, DeadlinePassed):
        return ()
    finally:
        if wire is not None:
            wire.close()
