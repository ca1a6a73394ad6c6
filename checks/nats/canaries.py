"""What is tried on purpose: requests to be answered, a message to be stored, namespaces to be deaf."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Final

import msgspec
from msgspec import Struct, field

from checks.catalog import ProbeKit
from checks.clock import Clock
from checks.finding import Measure, State
from checks.limits import chosen
from checks.nats.jetstream import DISABLED, NO_QUORUM, NOT_FOR_ACCOUNT, ApiError, PublishAck
from checks.nats.link import Link, Reply
from checks.nats.place import parse_urls
from checks.nats.thresholds import Thresholds
from checks.nats.visit import Entry, visit
from checks.problem import Problem, over
from checks.reason import Reason
from checks.secret import Secret
from checks.units import Duration

STREAM: Final = "GAIA_CANARY"
SUBJECT: Final = "gaia.canary"
_STREAM_CONFIG: Final = {
    "name": STREAM,
    "subjects": [SUBJECT],
    "max_msgs": 10,
    "storage": "memory",
    "discard": "old",
}
_FAULTS: Final[dict[int, tuple[State, Reason, str]]] = {
    10077: (State.DOWN, Reason.JS_STREAM_FULL, "a stream is full and refuses messages"),
    10047: (State.DOWN, Reason.JS_NO_STORAGE, "no storage is left: raise max_file or delete streams"),
    10023: (State.DOWN, Reason.JS_RESOURCE_LIMIT, "the server's resources are used up"),
    10028: (State.DOWN, Reason.JS_RESOURCE_LIMIT, "the server's memory for streams is used up"),
    10002: (State.DOWN, Reason.JS_ACCOUNT_LIMIT, "the account's limit is reached"),
}


def from_api_error(error: ApiError, what: str) -> Problem:
    """The problem for an error of the JetStream API, by its code."""
    if error.err_code in DISABLED:
        words = f"{what}: JetStream is switched off: nothing is stored; see the server's configuration"
        return Problem(state=State.DOWN, reason=Reason.JS_DISABLED, message=words, urgent=True)
    if error.err_code in NOT_FOR_ACCOUNT:
        words = f"{what}: JetStream is not enabled for the agent's account"
        return Problem(state=State.UNKNOWN, reason=Reason.JS_NOT_ENABLED_FOR_ACCOUNT, message=words)
    if error.err_code in NO_QUORUM:
        words = f"{what}: JetStream has no quorum: {error.description}; core messages still pass"
        return Problem(state=State.DOWN, reason=Reason.JS_NO_QUORUM, message=words, urgent=True)
    state, reason, why = _FAULTS.get(
        error.err_code, (State.DEGRADED, Reason.JS_RESOURCE_LIMIT, error.description)
    )
    words = f"{what}: {why} (code {error.err_code})"
    return Problem(state=state, reason=reason, message=words, urgent=state is State.DOWN)


class Tried(Struct):
    """What one canary gave."""

    problems: list[Problem] = field(default_factory=list)
    measures: list[Measure] = field(default_factory=list)


async def store(link: Link, limits: Thresholds, clock: Clock, *, within_s: float, replicas: int) -> Tried:
    """Publish one message to a small stream of our own, wait until it is stored, and read it back."""
    tried = Tried()
    config = msgspec.json.encode({**_STREAM_CONFIG, "num_replicas": replicas})
    refusals = len(link.errors)
    started = clock.monotonic_s()
    try:
        async with asyncio.timeout(within_s):
            if not await _is_there(link):
                created = await link.request(f"$JS.API.STREAM.CREATE.{STREAM}", config)
                answer = msgspec.json.decode(created.data or b"{}", type=PublishAck)
                if answer.error is not None:
                    tried.problems.append(from_api_error(answer.error, "the canary stream cannot be created"))
                    return tried
            started = clock.monotonic_s()
            problem = await _kept(link)
    except TimeoutError:
        # Nobody answers what the agent may not ask; that it may not is told as evidence.
        if not any("permissions violation" in text.lower() for text in link.errors[refusals:]):
            words = (
                f"a canary message was not stored within {Duration(within_s)} and not refused either: "
                "no quorum, or the disk is full"
            )
            tried.problems.append(
                Problem(state=State.DOWN, reason=Reason.JS_NO_QUORUM, message=words, urgent=True)
            )
        return tried
    took_s = clock.monotonic_s() - started
    if problem is not None:
        tried.problems.append(problem)
        return tried
    tried.measures.append(Measure(name="gaia_nats_canary_seconds", value=took_s))
    tried.problems += over(
        chosen(limits.canary),
        took_s,
        Reason.NATS_SLOW,
        lambda at: f"storing and reading a canary message took {took_s * 1000:.0f} ms (limit {Duration(at)})",
    )
    return tried


async def _kept(link: Link) -> Problem | None:
    """Store and read back, twice if need be: the small stream may have dropped the first for others' sake."""
    stored = 0
    for _ in range(2):
        ack = await _publish(link)
        if ack is None:
            return from_api_error(ApiError(description="no stream takes it"), "a canary message was refused")
        if ack.error is not None:
            return from_api_error(ack.error, "a canary message was refused")
        stored = ack.seq
        if await _reads_back(link, stored):
            return None
    words = f"a canary message was stored as number {stored} and cannot be read back: see the server's log"
    return Problem(state=State.DOWN, reason=Reason.JS_NO_STORAGE, message=words, urgent=True)


async def _is_there(link: Link) -> bool:
    reply = await link.request(f"$JS.API.STREAM.INFO.{STREAM}")
    return msgspec.json.decode(reply.data or b"{}", type=PublishAck).error is None


async def _publish(link: Link) -> PublishAck | None:
    """None when no stream listens."""
    reply = await link.request(SUBJECT, b"gaia")
    return None if reply.status else msgspec.json.decode(reply.data, type=PublishAck)


async def _reads_back(link: Link, seq: int) -> bool:
    reply = await link.request(f"$JS.API.STREAM.MSG.GET.{STREAM}", msgspec.json.encode({"seq": seq}))
    got = msgspec.json.decode(reply.data or b"{}", type=_Got)
    return got.message is not None and got.message.seq == seq


class _Stored(msgspec.Struct, frozen=True, kw_only=True):
    seq: int = 0


class _Got(msgspec.Struct, frozen=True, kw_only=True):
    message: _Stored | None = None


class _Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    name: str = ""
    num_requests: int = 0
    num_errors: int = 0
    last_error: str = ""


class _Stats(msgspec.Struct, frozen=True, kw_only=True):
    name: str = ""
    endpoints: tuple[_Endpoint, ...] = ()


async def services(link: Link, names: tuple[str, ...], *, within_s: float) -> Tried:
    """NATS micro services by `$SRV.STATS`: present, and how often they answered with an error."""
    tried = Tried()
    for name in names:
        reply = await _ask(link, f"$SRV.STATS.{name}", within_s)
        if reply is None or reply.status:
            how = "does not answer" if reply is None else "is not there: nobody listens"
            words = f"the NATS micro service {name} {how}: start it"
            tried.problems.append(Problem(state=State.DEGRADED, reason=Reason.NATS_SERVICE, message=words))
            continue
        stats = msgspec.json.decode(reply.data, type=_Stats)
        labels = (("micro_service", name),)
        asked = sum(endpoint.num_requests for endpoint in stats.endpoints)
        failed = sum(endpoint.num_errors for endpoint in stats.endpoints)
        tried.measures += [
            Measure(name="gaia_nats_micro_requests_total", value=float(asked), labels=labels),
            Measure(name="gaia_nats_micro_errors_total", value=float(failed), labels=labels),
        ]
    return tried


async def answers(link: Link, subjects: tuple[str, ...], *, within_s: float) -> Tried:
    """Request subjects that must be answered; no responder is told from a silent one."""
    tried = Tried()
    for subject in subjects:
        reply = await _ask(link, subject, within_s)
        if reply is not None and not reply.status:
            continue
        words = (
            f"nobody listens on request subject {subject}: start its service"
            if reply is not None
            else f"request subject {subject} was not answered within {Duration(within_s)}: its service hangs"
        )
        tried.problems.append(
            Problem(state=State.DEGRADED, reason=Reason.NATS_NO_RESPONDERS, message=words, urgent=True)
        )
    return tried


async def isolation(urls: tuple[Secret, ...], kit: ProbeKit, *, within_s: float) -> Tried:
    """Every developer listens to everything while every other one publishes: nobody may hear a thing."""
    tried = Tried()
    links = [link async for link in _open(urls, kit, tried, within_s)]
    try:
        async with asyncio.timeout(within_s):
            for number, listener in enumerate(links):
                for other, speaker in enumerate(links):
                    if other == number:
                        continue
                    leak = await _leak(listener, speaker)
                    if leak:
                        words = leak.format(listener=number + 1, speaker=other + 1)
                        tried.problems.append(
                            Problem(
                                state=State.DEGRADED, reason=Reason.NATS_ISOLATION, message=words, urgent=True
                            )
                        )
    except (TimeoutError, OSError):
        words = "the isolation of developer namespaces could not be tried: the connection ended"
        tried.problems.append(Problem(state=State.UNKNOWN, reason=Reason.NATS_ISOLATION, message=words))
    finally:
        for link in links:
            link.close()
    return tried


async def _open(
    urls: tuple[Secret, ...], kit: ProbeKit, tried: Tried, within_s: float
) -> AsyncIterator[Link]:
    for number, url in enumerate(urls, start=1):
        visited = await visit(parse_urls(url)[0], Entry(), kit, answer_within_s=within_s)
        if visited.link is not None:
            yield visited.link
        elif visited.failure is not None:
            words = f"developer namespace {number} cannot be tried: {visited.failure.message}"
            tried.problems.append(Problem(state=State.UNKNOWN, reason=visited.failure.reason, message=words))


async def _leak(listener: Link, speaker: Link) -> str:
    """How one namespace reaches the other; empty when it does not.

    Accounts keep them apart by themselves: what is published is not heard. In one account permissions must:
    then the listener may not hear everything, and the speaker may not publish outside its own subjects.
    """
    heard: list[Reply] = []
    subject = f"gaia.isolation.{secrets.token_hex(8)}"
    refused_before = len(listener.errors), len(speaker.errors)
    sid = listener.subscribe(">", heard.append)
    await listener.ping()
    speaker.publish(subject, b"gaia")
    # The speaker's PONG says that its message was routed, the listener's that all before it was delivered.
    await speaker.ping()
    await listener.ping()
    listener.unsubscribe(sid)
    if any(reply.subject == subject for reply in heard):
        return (
            "developer namespace {listener} reads the messages of namespace {speaker}: "
            "give each its own account or subject permissions"
        )
    may_not_hear = len(listener.errors) > refused_before[0]
    if may_not_hear and len(speaker.errors) == refused_before[1]:
        return (
            "developer namespace {speaker} may publish outside its own subjects, so into namespace "
            "{listener}: limit what it may publish, or give each its own account"
        )
    return ""


async def _ask(link: Link, subject: str, within_s: float) -> Reply | None:
    try:
        async with asyncio.timeout(within_s):
            return await link.request(subject)
    except TimeoutError:
        return None
