"""From what a NATS connection met to a finding: by errno, protocol line and -ERR."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Final

from checks.finding import Finding, State
from checks.nats.link import LinkRefusedError, NotNatsError, TlsMissingError
from checks.nats.place import Place
from checks.reason import Reason
from checks.units import Duration

# What a connection attempt may raise beside OSError and TimeoutError.
LinkFailure = LinkRefusedError | NotNatsError | TlsMissingError
LINK_FAILURES: Final = (LinkRefusedError, NotNatsError, TlsMissingError)


def silent(place: Place, *, waited_s: float, connected: bool) -> Finding:
    """No greeting or no PONG in time; `connected` when a connection was accepted at all."""
    if connected:
        words = (
            f"{place.shown} accepts and stays silent for {Duration(waited_s)}: "
            "the broker hangs; look at its host, it may be frozen"
        )
        return Finding(state=State.DOWN, reason=Reason.NATS_FROZEN, message=words)
    words = f"{place.shown} took no connection within {Duration(waited_s)}: check the route and the host"
    return Finding(state=State.DOWN, reason=Reason.NATS_UNREACHABLE, message=words)


def from_failure(error: LinkFailure, place: Place) -> Finding:
    """The finding for a server that answered, but not as a broker that lets us in."""
    shown = place.shown
    if isinstance(error, TlsMissingError):
        words = f"{shown} offers no TLS although tls:// is configured: nothing was sent; enable TLS there"
        return Finding(state=State.DEGRADED, reason=Reason.NATS_PLAINTEXT, message=words)
    if isinstance(error, NotNatsError):
        words = f"{shown} does not speak NATS (it began with {error.text[:20]!r}): check the port"
        return Finding(state=State.DOWN, reason=Reason.NATS_NOT_NATS, message=words, hard=True)
    text = error.text.lower()
    if "maximum connections" in text:
        words = f"{shown} takes no further client: {error.text}; find the leak or raise max_connections"
        return Finding(state=State.DOWN, reason=Reason.NATS_MAX_CONNECTIONS, message=words, hard=True)
    if "authorization" in text or "authentication" in text or "user credentials" in text:
        words = f"{shown} is alive and rejects the agent's credentials: {error.text}"
        return Finding(state=State.UNKNOWN, reason=Reason.NATS_AUTH_FAILED, message=words)
    if "tls" in text or "secure connection" in text:
        words = f"{shown} is alive and demands TLS: use tls:// in its URL"
        return Finding(state=State.UNKNOWN, reason=Reason.NATS_TLS_REQUIRED, message=words)
    words = f"{shown} refuses the agent: {error.text[:200]}"
    return Finding(state=State.DOWN, reason=Reason.PROTOCOL, message=words, hard=True)


def from_os_error(error: OSError, place: Place) -> Finding:
    """The finding for a socket, name or TLS error."""
    shown = place.shown
    if isinstance(error, ssl.SSLError):
        why = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else error.reason
        words = f"{shown} is alive; its certificate or handshake is not accepted ({why}): check CA and name"
        return Finding(state=State.UNKNOWN, reason=Reason.NATS_TLS_VERIFY, message=words)
    if isinstance(error, socket.gaierror):
        words = f"the name {place.host} cannot be resolved ({error.strerror}): check DNS and the machine"
        return Finding(state=State.DOWN, reason=Reason.NATS_DNS, message=words)
    if isinstance(error, ConnectionRefusedError):
        words = f"{shown} refuses connections: the nats-server process is not running"
        return Finding(state=State.DOWN, reason=Reason.NATS_REFUSED, message=words, hard=True)
    if isinstance(error, ConnectionError):
        words = f"{shown} accepts and closes at once: a proxy is up but has no broker behind it"
        return Finding(state=State.DOWN, reason=Reason.NATS_NO_BACKEND, message=words, hard=True)
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
        words = f"the agent has no socket left to look at {shown} ({error.strerror}): raise its limits"
        return Finding(state=State.UNKNOWN, reason=Reason.AGENT, message=words)
    words = f"{shown} cannot be reached ({error.strerror or error}): check the route"
    return Finding(state=State.DOWN, reason=Reason.NATS_UNREACHABLE, message=words)
