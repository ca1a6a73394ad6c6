"""When every address of a name is probed: what they say together."""

from __future__ import annotations

from msgspec.structs import replace

from checks.finding import SEVERITY, Evidence, Finding, State
from checks.target import Target
from checks.wire.journey import Journey

_BROKEN = (State.DOWN, State.UNKNOWN)


def agreement(target: Target, findings: dict[str, Finding], journey: Journey) -> Finding:
    """One finding for all addresses: down when all are, degraded when some are, else the worst of them.

    `journey` led to the addresses; its look-up is part of every answer's time.
    """
    worst = min(findings.values(), key=lambda finding: SEVERITY.index(finding.state))
    broken = [address for address, finding in findings.items() if finding.state in _BROKEN]
    each = tuple(
        Evidence(
            name=f"address {address}", value=f"{finding.state} {finding.reason}: {finding.message}"[:300]
        )
        for address, finding in findings.items()
    )
    slowest = max(
        (finding.latency_s for finding in findings.values() if finding.latency_s is not None), default=None
    )
    together = replace(
        worst,
        latency_s=None if slowest is None else slowest + (journey.latency_s or 0.0),
        phases=journey.phases() + worst.phases,
        evidence=worst.evidence + journey.notes() + each,
    )
    if not broken:
        return together
    if len(broken) == len(findings):
        return (
            together
            if len(findings) == 1
            else replace(together, message=f"{worst.message}; so do all {len(findings)} addresses")
        )
    whole = len(findings) - len(broken)
    said = worst.message.removeprefix(f"{target.address} ")
    return replace(
        together,
        state=State.DEGRADED,
        hard=False,
        message=f"{target.address}: {whole} of {len(findings)} addresses answer; {', '.join(broken)} {said}",
    )
