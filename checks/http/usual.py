"""The right answer of the last look: when the same comes again in time, it is not judged again."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from msgspec import Struct

from checks.finding import Claim, Evidence, Finding, Measure, State
from checks.http.head import Head
from checks.http.judgement import Expectation, answers
from checks.reason import Reason
from checks.target import Target
from checks.wire.dial import TlsSeen
from checks.wire.expiry import earliest

if TYPE_CHECKING:
    from checks.http.check import Look


class Usual(Struct, frozen=True, kw_only=True):
    """An answer that was `up`, and all that followed from it but its time and its trace."""

    head: Head
    body: bytes
    ip: str | None
    tls: TlsSeen | None
    # Wall second from which the certificate is worth a warning.
    until_s: float
    measures: tuple[Measure, ...]
    claims: tuple[Claim, ...]
    evidence: tuple[Evidence, ...]

    @classmethod
    def of(cls, look: Look, finding: Finding, expectation: Expectation) -> Usual | None:
        """What can be expected after `finding`; None where more than the answer itself decides."""
        answer, journey = look.answer, look.journey
        # What was noted on the way belongs to this look.
        if answer is None or look.redirects or journey.evidence:
            return None
        first = earliest(look.tls.needed) if look.tls is not None else None
        return cls(
            head=answer.head,
            body=answer.body,
            ip=journey.ip,
            tls=look.tls,
            until_s=math.inf if first is None else first.not_after_s - expectation.tls.expires_within,
            measures=finding.measures,
            claims=finding.claims,
            evidence=finding.evidence[1:],
        )

    def again(self, target: Target, expectation: Expectation, look: Look, now_s: float) -> Finding | None:
        """The finding of a look that got this answer again by wall second `now_s`; None when not quite."""
        answer, journey = look.answer, look.journey
        latency_s = journey.latency_s or 0.0
        if (
            answer is None
            or answer.head is not self.head
            or answer.body != self.body
            or journey.ip != self.ip
            or look.tls != self.tls
            or now_s >= self.until_s
            or look.redirects
            or journey.evidence
            or expectation.slow(latency_s)
        ):
            return None
        return Finding(
            state=State.UP,
            reason=Reason.OK,
            message=f"{target.address} {answers(answer.head.status, latency_s)}",
            latency_s=latency_s,
            phases=journey.phases(),
            measures=self.measures,
            claims=self.claims,
            evidence=(Evidence(name="trace_id", value=look.trace_id), *self.evidence),
        )
