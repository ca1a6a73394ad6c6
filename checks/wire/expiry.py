"""When a chain expires, and what that means today."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from msgspec import Struct

from checks.finding import Evidence, State
from checks.reason import Reason
from checks.wire.certificate import Certificate
from checks.wire.tls_options import TlsOptions

_DAY_S = 86400.0


class Expiry(Struct, frozen=True, kw_only=True):
    """A chain that has expired or soon will; `words` end a sentence about the address."""

    state: State
    reason: Reason
    words: str


def earliest(chain: tuple[Certificate, ...]) -> Certificate | None:
    """The certificate of `chain` that expires first."""
    return min(chain, key=lambda certificate: certificate.not_after_s, default=None)


def expiring(chain: tuple[Certificate, ...], options: TlsOptions, *, now_s: float) -> Expiry | None:
    """What the whole chain's expiry means at wall time `now_s`; None when it is far away."""
    first = earliest(chain)
    if first is None:
        return None
    left_s = first.not_after_s - now_s
    if left_s > options.expires_within:
        return None
    which = "certificate" if first is chain[0] else f'intermediate certificate "{first.subject[:80]}"'
    if left_s <= 0:
        return Expiry(
            state=State.DOWN,
            reason=Reason.TLS_EXPIRED,
            words=f"has a {which} that expired on {day(first.not_after_s)}: renew it",
        )
    threshold = options.expires_soon if left_s <= options.expires_soon else options.expires_within
    days = math.floor(left_s / _DAY_S)
    left = f"{days} days" if days > 1 else f"{math.floor(left_s / 3600)} hours"
    now = "now" if threshold == options.expires_soon else "soon"
    return Expiry(
        state=State.DEGRADED,
        reason=Reason.TLS_EXPIRING,
        words=(
            f"has a {which} that expires in {left}, on {day(first.not_after_s)} (below {threshold}): "
            f"renew it {now}"
        ),
    )


def day(at_s: float) -> str:
    """A moment as a date people read."""
    try:
        return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d")
    except (OverflowError, ValueError, OSError):
        return "a date out of range"


def moment(at_s: float) -> str:
    """A point in time as people read it, to the second."""
    try:
        return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return "a time out of range"


def chain_evidence(chain: tuple[Certificate, ...]) -> list[Evidence]:
    """The chain for people, leaf first."""
    return [
        Evidence(
            name=f"certificate {place}",
            value=(
                f"{certificate.subject or 'no subject'}, issued by {certificate.issuer or 'nobody'}, "
                f"valid {day(certificate.not_before_s)} to {day(certificate.not_after_s)}, "
                f"for {', '.join(certificate.names[:5]) or 'no name'}"
            ),
        )
        for place, certificate in enumerate(chain[:4])
    ]
