"""The right answer of the last look: when the same comes again in time, it is not judged again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from checks.finding import Claim, Evidence, Finding, Measure, State
from checks.http.judgement import Expectation, answers
from checks.http.response import Head
from checks.reason import Reason
from checks.target import Target

if TYPE_CHECKING:
    from checks.http.check import Look


class Usual(Struct, frozen=True, kw_only=True):
    """An answer that was `up`, and all that followed from it but its time and its trace."""

    head: Head
    body: bytes
    ip: str | None
    measures: tuple[Measure, ...]
    claims: tuple[Claim, ...]
    evidence: tuple[Evidence, ...]

    @classmethod
    def of(cls, look: Look, finding: Finding) -> Usual | None:
        """What can be expected after `finding`; None where more than the answer itself decides."""
        answer, journey = look.answer, look.journey
        # A certificate ages, and what was noted on the way belongs to this look.
        if answer is None or look.tls is not None or look.redirects or journey.evidence:
            return None
        return cls(
            head=answer.head,
            body=answer.body,
            ip=journey.ip,
            measures=finding.measures,
            claims=finding.claims,
            evidence=finding.evidence[1:],
        )

    def again(self, target: Target, expectation: Expectation, look: Look) -> Finding | None:
        """The finding of a look that got this answer once more; None when anything differs."""
        answer, journey = look.answer, look.journey
        latency_s = journey.latency_s or 0.0
        if (
            answer is None
            or answer.head is not self.head
            or answer.body != self.body
            or journey.ip != self.ip
            or look.tls is not None
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
