"""A look at an HTTP service becomes a Finding: one sentence, its numbers, its evidence."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from checks.finding import Evidence, Finding, Phase, State
from checks.http.judgement import Expectation, Judgement
from checks.http.measures import answer_measures, way_measures
from checks.reason import Reason
from checks.target import Target
from checks.units import Duration
from checks.wire.expiry import expiring
from checks.wire.fault import Fault
from checks.wire.journey import Journey

if TYPE_CHECKING:
    from checks.http.check import Look

_EXCERPT_BYTES: Final = 400
_UNFINISHED: Final = {
    Phase.RESOLVE: "the name look-up did not end",
    Phase.CONNECT: "nothing accepted the connection",
    Phase.TLS: "the TLS handshake did not end",
    Phase.PROCESSING: "it accepted the request and sent no answer",
    Phase.TRANSFER: "the answer did not end",
}
# What people put into JSON and must not appear on a page.
_SENSITIVE: Final = re.compile(
    r"""(?i)(["']?[\w.-]*(?:password|passwd|secret|token|api[_-]?key|authorization|credential|dsn|cookie)[\w.-]*["']?"""
    r"""\s*[:=]\s*)("(?:[^"\\]|\\.)*"?|[^\s,;&}]+)"""
)
_USERINFO: Final = re.compile(r"(\w+://)[^/\s@\"']+@")
_BEARER: Final = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}")


def timed_out(journey: Journey, timeout_s: float) -> Fault:
    """The fault of a look cut off at its deadline, naming the unfinished phase."""
    timeout = Duration(timeout_s)
    if journey.phase is None:
        return Fault(Reason.TIMEOUT, f"did not answer within {timeout}")
    return Fault(
        Reason.TIMEOUT,
        f"did not answer within {timeout}: {_UNFINISHED[journey.phase]} ({journey.phase} unfinished)",
    )


def finding_of(
    target: Target, expectation: Expectation, look: Look, fault: Fault | None, *, now_s: float
) -> Finding:
    """The finding of a look that ended with an answer, or with `fault`."""
    journey, answer = look.journey, look.answer
    measures = way_measures(journey.ip, look.tls, look.chain)
    if fault is not None:
        return Finding(
            state=State.DOWN,
            reason=fault.reason,
            message=f"{target.address} {fault.message}",
            hard=fault.hard,
            latency_s=None,
            phases=journey.phases(),
            measures=measures,
            evidence=_evidence(look),
        )
    assert answer is not None
    latency_s = journey.latency_s or 0.0
    judgement = expectation.judge(answer, latency_s)
    if judgement.state is State.UP and look.chain:
        expiry = expiring(look.chain, expectation.tls, now_s=now_s)
        if expiry is not None:
            judgement = Judgement(
                state=expiry.state, reason=expiry.reason, words=expiry.words, document=judgement.document
            )
    measures += answer_measures(answer, tls=look.tls, redirects=look.redirects)
    return Finding(
        state=judgement.state,
        reason=judgement.reason,
        message=f"{target.address} {judgement.words}",
        latency_s=latency_s,
        phases=journey.phases(),
        measures=measures,
        claims=judgement.document.claims if judgement.document is not None else (),
        evidence=_evidence(look, excerpt=judgement.state is not State.UP),
    )


def _evidence(look: Look, *, excerpt: bool = True) -> tuple[Evidence, ...]:
    journey, answer = look.journey, look.answer
    found = [Evidence(name="trace_id", value=look.trace_id)] if look.trace_id else []
    if journey.ip is not None:
        found.append(_fact("ip", journey.ip))
    if answer is not None:
        found.append(_fact("status", str(answer.head.status)))
        if excerpt and answer.body:
            found.append(Evidence(name="body", value=redacted(answer.body)))
    if look.tls is not None and excerpt:
        found.append(Evidence(name="tls", value=f"{look.tls.version}, {look.tls.cipher}"))
    if look.chain and excerpt:
        found += [
            Evidence(
                name=f"certificate {place}", value=f"{certificate.subject}, issued by {certificate.issuer}"
            )
            for place, certificate in enumerate(look.chain[:4])
        ]
    if journey.evidence:
        found += journey.facts()
    return tuple(found)


@lru_cache(maxsize=1024)
def _fact(name: str, value: str) -> Evidence:
    """Evidence that most looks share."""
    return Evidence(name=name, value=value)


def redacted(body: bytes) -> str:
    """The first bytes of a body for people, without what looks like a secret."""
    text = body[: _EXCERPT_BYTES * 2].decode("utf-8", "replace")
    text = _USERINFO.sub(r"\1***@", _BEARER.sub(r"\1 ***", _SENSITIVE.sub(r"\1***", text)))
    printable = "".join(letter if letter.isprintable() else " " for letter in text[:_EXCERPT_BYTES])
    return printable.strip()
