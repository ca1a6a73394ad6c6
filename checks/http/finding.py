"""A look at an HTTP service becomes a Finding: one sentence, its numbers, its evidence."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from checks.finding import Evidence, Finding, State
from checks.http.judgement import Expectation, Judgement
from checks.http.measures import answer_measures
from checks.reason import Reason
from checks.target import Target
from checks.wire.expiry import chain_evidence, expiring
from checks.wire.fault import Fault
from checks.wire.measures import way_measures
from checks.wire.redaction import redacted, tidy

if TYPE_CHECKING:
    from checks.http.check import Look


def finding_of(
    target: Target, expectation: Expectation, look: Look, fault: Fault | None, *, now_s: float
) -> Finding:
    """The finding of a look that ended with an answer, or with `fault`."""
    journey, answer = look.journey, look.answer
    measures = way_measures(journey.ip, look.tls, look.chain)
    if fault is not None:
        return Finding(
            # What keeps us from asking says nothing about the target.
            state=State.UNKNOWN if fault.reason is Reason.CONFIG else State.DOWN,
            reason=fault.reason,
            message=f"{target.address} {_told(look, fault.message, fault.reason)}",
            hard=fault.hard,
            latency_s=None,
            phases=journey.phases(),
            measures=measures,
            evidence=_evidence(look),
        )
    assert answer is not None
    latency_s = journey.latency_s or 0.0
    judgement = expectation.judge(answer, latency_s, secure=look.tls is not None)
    if judgement.state is State.UP and look.tls is not None:
        expiry = expiring(look.tls.needed, expectation.tls, now_s=now_s)
        if expiry is not None:
            judgement = Judgement(
                state=expiry.state, reason=expiry.reason, words=expiry.words, document=judgement.document
            )
    words = judgement.words
    if judgement.state is not State.UP:
        words = _told(look, words, judgement.reason)
    measures += answer_measures(answer, tls=look.tls, redirects=look.redirects)
    return Finding(
        state=judgement.state,
        reason=judgement.reason,
        message=f"{target.address} {words}",
        latency_s=latency_s,
        phases=journey.phases(),
        measures=measures,
        claims=judgement.document.claims if judgement.document is not None else (),
        evidence=_evidence(look, excerpt=judgement.state is not State.UP),
    )


def _told(look: Look, words: str, reason: Reason) -> str:
    """`words` for people; what happened behind a redirect is said of where it happened."""
    behind = look.journey.evidence.get(f"redirect {look.redirects}") if look.redirects else None
    if behind is not None and reason is not Reason.REDIRECT_INVALID:
        words = f"redirects to {behind}, which {words}"
    return tidy(words)


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
        found += chain_evidence(look.chain)
    if journey.evidence:
        found += journey.notes()
    return tuple(found)


@lru_cache(maxsize=1024)
def _fact(name: str, value: str) -> Evidence:
    """Evidence that most looks share."""
    return Evidence(name=name, value=value)
