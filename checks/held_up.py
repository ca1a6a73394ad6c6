"""A look during which the agent itself was held up says nothing bad about its target: pure."""

from __future__ import annotations

from typing import Final

from checks.finding import Evidence, Finding, State
from checks.reason import Reason
from checks.target import Target
from checks.units import Duration

# Shorter hold-ups are the ordinary turns of a busy loop; no limit of a look is as short.
_LEAST_S: Final = 0.1
_SHARE: Final = 0.5
_BLAME: Final = frozenset({State.DOWN, State.DEGRADED})


def unless_held_up(finding: Finding, target: Target, *, held_s: float, duration_s: float) -> Finding:
    """`finding`, or that nothing is known when the agent lived through less than half of the look.

    Lateness makes timeouts inside and around a look, and peers that hang up on whoever keeps them waiting, in
    each protocol's own words: so it is the time that decides, not the reason. Good news stays good, and a
    refused connection is nobody's lateness.
    """
    if finding.state not in _BLAME or finding.reason is Reason.CONNECTION_REFUSED:
        return finding
    if held_s < _LEAST_S or held_s < _SHARE * duration_s:
        return finding
    return Finding(
        state=State.UNKNOWN,
        reason=Reason.AGENT,
        message=f"the agent itself was held up for {Duration(round(held_s, 1))} while it looked at"
        f" {target.address}: it looks again; give it more CPU if this goes on",
        evidence=(Evidence(name="said", value=finding.message[:500]),),
    )
