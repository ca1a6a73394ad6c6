"""From what a connection met to a finding: by errno, protocol byte and SQLSTATE, as PostgreSQL names them.

Texts are translated by servers, so they only tell apart what shares one SQLSTATE and one C function (57P03).
"""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Final

from msgspec.structs import replace

from checks.finding import Evidence, Finding, State
from checks.postgres import flex
from checks.postgres.flex import Flex
from checks.postgres.knock import Knock, Stage
from checks.postgres.place import Place
from checks.postgres.wire import ServerError
from checks.reason import Reason
from checks.units import Duration

_DOWN: Final = State.DOWN
_UNKNOWN: Final = State.UNKNOWN
_OWN_ROLE_LIMIT: Final = "InitializeSessionUserId"

# SQLSTATE -> state, reason, what to say after the address. States that are down are hard evidence.
_BY_SQLSTATE: Final[dict[str, tuple[State, Reason, str]]] = {
    "28P01": (
        _UNKNOWN,
        Reason.PG_AUTH_FAILED,
        "is alive and rejects the agent's credentials for role {user}: check the password and its expiry",
    ),
    "28000": (
        _UNKNOWN,
        Reason.PG_NOT_PERMITTED,
        "is alive and does not let role {user} in: check pg_hba.conf and that the role may log in",
    ),
    "3D000": (
        _DOWN,
        Reason.PG_DATABASE_MISSING,
        "has no database {database}: create it or correct the URL",
    ),
    "55000": (
        _DOWN,
        Reason.PG_DATABASE_CLOSED,
        "takes no connection to database {database}: ALTER DATABASE {database} ALLOW_CONNECTIONS true",
    ),
    "53300": (
        _DOWN,
        Reason.PG_TOO_MANY_CONNECTIONS,
        "has no connection slot left: find who holds them, add a pooler or raise max_connections",
    ),
    "53100": (_DOWN, Reason.PG_DISK_FULL, "cannot write, no space left: extend the volume"),
    "54000": (
        _DOWN,
        Reason.PG_WRAPAROUND,
        "has stopped assigning transaction ids: run VACUUM in every database",
    ),
    "25006": (_DOWN, Reason.PG_READ_ONLY, "refuses writes: is its volume above 90 %? extend it"),
    "42501": (
        _UNKNOWN,
        Reason.PG_NOT_PERMITTED,
        "does not let role {user} look: run `gaia doctor postgres`",
    ),
    "53000": (
        _DOWN,
        Reason.PG_NO_BACKEND,
        "accepts but cannot start a process for a connection: memory or process limit",
    ),
    "0A000": (_DOWN, Reason.PG_NOT_POSTGRES, "refuses protocol 3.0: is this PostgreSQL?"),
}


def from_server_error(error: ServerError, place: Place, *, offers_tls: bool = False) -> Finding:
    """The finding for an ErrorResponse during log-in or a query; `offers_tls`: and it was not used."""
    if error.sqlstate == "57P03":
        return _not_accepting(error, place)
    if error.sqlstate in ("57P01", "57P02"):
        return _finding(
            _DOWN,
            Reason.PG_SHUTTING_DOWN,
            f"{place.shown} ended the session: shutting down",
            error,
            hard=True,
        )
    if error.sqlstate == "53300" and error.routine == _OWN_ROLE_LIMIT:
        words = (
            f"{place.shown} is alive; role {place.user} is at its own CONNECTION LIMIT: find the other agent"
        )
        return _finding(_UNKNOWN, Reason.PG_MONITOR_LIMIT, words, error)
    if error.sqlstate == "28000" and offers_tls and _wants_tls(error):
        words = f"{place.shown} is alive and demands TLS: set sslmode=require or stricter"
        return _finding(_UNKNOWN, Reason.PG_TLS_REQUIRED, words, error)
    known = _BY_SQLSTATE.get(error.sqlstate)
    if known is not None:
        state, reason, words = known
        sentence = f"{place.shown} {words.format(user=place.user, database=place.database)}"
        return _finding(state, reason, sentence, error, hard=state is _DOWN)
    words = f"{place.shown} answered with SQLSTATE {error.sqlstate or 'none'}: {error.message[:200]}"
    return _finding(_UNKNOWN, Reason.PROTOCOL, words, error)


def from_knock(knock: Knock, place: Place, *, answer_within_s: float) -> Finding | None:
    """The finding for a knock that failed; None when the server answered as it should."""
    if knock.server_error is not None:
        unused = knock.offers_tls and not knock.speaks_tls
        return from_server_error(knock.server_error, place, offers_tls=unused)
    if knock.failure is not None:
        return from_os_error(knock.failure, place)
    if knock.timed_out:
        return _silent(knock, place, answer_within_s)
    if knock.closed:
        words = f"{place.shown} accepts and closes at once: a proxy is up but has no database behind it"
        return Finding(state=_DOWN, reason=Reason.PG_NO_BACKEND, message=words, hard=True)
    if knock.stray:
        words = f"{place.shown} does not speak PostgreSQL (it began with {knock.stray!r}): check the port"
        return Finding(state=_DOWN, reason=Reason.PG_NOT_POSTGRES, message=words, hard=True)
    if knock.speaks_tls is False and place.tls in ("require", "verify-ca", "verify-full"):
        words = f"{place.shown} is alive and has no TLS, which sslmode={place.tls} wants: no password is sent"
        return Finding(state=_UNKNOWN, reason=Reason.PG_TLS_UNAVAILABLE, message=words)
    return None


def from_os_error(error: OSError, place: Place) -> Finding:
    """The finding for a socket, name or TLS error."""
    shown = place.shown
    if isinstance(error, ssl.SSLCertVerificationError):
        words = (
            f"{shown} is alive; its certificate is not trusted ({error.verify_message}): check CA and name"
        )
        return Finding(state=_UNKNOWN, reason=Reason.PG_TLS_VERIFY, message=words)
    if isinstance(error, ssl.SSLError):
        words = f"{shown} is alive; the TLS handshake failed ({error.reason or 'no reason given'})"
        return Finding(state=_UNKNOWN, reason=Reason.PG_TLS_VERIFY, message=words)
    if isinstance(error, socket.gaierror):
        words = f"the name {place.host} cannot be resolved ({error.strerror}): check DNS and the machine"
        return Finding(state=_DOWN, reason=Reason.PG_DNS, message=words)
    if isinstance(error, (ConnectionResetError, BrokenPipeError)):
        words = f"{shown} accepts and resets the connection: a proxy is up but has no database behind it"
        return Finding(state=_DOWN, reason=Reason.PG_NO_BACKEND, message=words, hard=True)
    if isinstance(error, (ConnectionRefusedError, FileNotFoundError)):
        words = f"{shown} refuses connections: the PostgreSQL process is not running"
        return Finding(state=_DOWN, reason=Reason.PG_REFUSED, message=words, hard=True)
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
        words = f"the agent has no socket left to look at {shown} ({error.strerror}): raise its limits"
        return Finding(state=_UNKNOWN, reason=Reason.AGENT, message=words)
    if error.errno in (errno.EACCES, errno.EPERM):
        words = f"the agent may not open {shown} ({error.strerror}): check the socket's permissions"
        return Finding(state=_UNKNOWN, reason=Reason.PG_NOT_PERMITTED, message=words)
    words = f"{shown} cannot be reached ({error.strerror or error}): check the route"
    return Finding(state=_DOWN, reason=Reason.PG_UNREACHABLE, message=words)


def frozen(place: Place, *, waited_s: float, also_held: bool) -> Finding:
    """A server that accepts and does not answer; `also_held` when the held session is silent too."""
    held = "the held session and a new connection are" if also_held else "a new connection is"
    words = f"{place.shown} hangs: {held} silent for {Duration(waited_s)}; look at its host, it may be frozen"
    return Finding(state=_DOWN, reason=Reason.PG_FROZEN, message=words)


def accept_stalled(place: Place, *, waited_s: float) -> Finding:
    """New connections hang while the held session answers."""
    words = (
        f"{place.shown} takes no new session within {Duration(waited_s)} while held ones still answer: "
        "the postmaster hangs or the machine forks too slowly"
    )
    return Finding(state=_DOWN, reason=Reason.PG_ACCEPT_STALLED, message=words)


def behind_proxy(found: Finding, seen: Flex, place: Place) -> Finding:
    """`found` (closed or refused), told apart by what the machine and its proxy say without SQL."""
    known = flex.no_primary(seen)
    state = Evidence(name="machine", value=f"its own checks say: {seen.role}") if seen.role else None
    evidence = (*found.evidence, *((state,) if state else ()), *flex.evidence(seen))
    if known:
        words = f"{place.shown} leads nowhere: {known}; see `fly status` and the failover of its cluster"
        return replace(found, reason=Reason.PG_NO_BACKEND, message=words, evidence=evidence)
    return replace(found, evidence=evidence)


def _silent(knock: Knock, place: Place, answer_within_s: float) -> Finding:
    if knock.stage is Stage.RESOLVE:
        words = f"the resolver did not answer for {place.host} within {Duration(answer_within_s)}"
        return Finding(state=_UNKNOWN, reason=Reason.PG_DNS, message=words)
    if knock.stage is Stage.CONNECT:
        words = (
            f"{place.shown} took no connection within {Duration(answer_within_s)}: check the route and host"
        )
        return Finding(state=_DOWN, reason=Reason.PG_UNREACHABLE, message=words)
    return frozen(place, waited_s=answer_within_s, also_held=False)


def _not_accepting(error: ServerError, place: Place) -> Finding:
    """57P03 has one routine for four situations; only the English text tells them apart."""
    text = error.message
    if "shutting down" in text:
        words = f"{place.shown} is shutting down: it takes no new session"
        return _finding(_DOWN, Reason.PG_SHUTTING_DOWN, words, error, hard=True)
    if "recovery mode" in text:
        words = f"{place.shown} replays its log after a crash: a process of the server died; read its log"
        return _finding(State.STARTING, Reason.PG_CRASH_RECOVERY, words, error, hard=True)
    words = f"{place.shown} is starting up and takes no session yet"
    return _finding(State.STARTING, Reason.PG_STARTING, words, error, hard=True)


def _wants_tls(error: ServerError) -> bool:
    # Every hba rejection ends in the transport that was tried: a hint only where another one was on offer.
    return error.message.rstrip().endswith(("no encryption", "SSL off"))


def _finding(
    state: State, reason: Reason, message: str, error: ServerError, *, hard: bool = False
) -> Finding:
    evidence = [Evidence(name="sqlstate", value=error.sqlstate)]
    if error.message:
        evidence.append(Evidence(name="server", value=error.message[:300]))
    if error.detail:
        evidence.append(Evidence(name="detail", value=error.detail[:300]))
    return Finding(state=state, reason=reason, message=message, hard=hard, evidence=tuple(evidence))
