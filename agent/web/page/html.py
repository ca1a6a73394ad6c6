"""Text that strangers wrote, made safe to show; numbers, as people read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

_LONGEST: Final = 300
_UNSAFE_ID: Final = re.compile(r"[^A-Za-z0-9_-]")
# As html.escape has it, whose module also brings a table of 2,231 entities that stays in memory.
_ESCAPED: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})
# Controls, zero-width and bidirectional marks: invisible, and able to make a text read as another.
_INVISIBLE: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)


def esc(text: str, limit: int = _LONGEST) -> str:
    """`text` for element content and quoted attributes: capped, escaped, invisible characters named."""
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return _INVISIBLE.sub(_named, text).translate(_ESCAPED)


def anchor(env: str, service: str) -> str:
    """An element id for a component: `c.production.auth`; no two names share one."""
    names = (_UNSAFE_ID.sub(lambda match: f"~{ord(match[0]):x}~", name) for name in (env, service))
    return "c." + ".".join(names)


def span_text(seconds: float | None) -> str:
    """A measured duration: `0.4 ms`, `21 ms`, `1.42 s`; a dash when it was not measured."""
    if seconds is None:
        return "–"
    if seconds < 0.00995:
        return f"{seconds * 1000:.1f} ms"
    return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else f"{seconds:.2f} s"


def limit_text(seconds: float) -> str:
    """A configured duration: `2 s`, `250 ms`."""
    return f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1000:g} ms"


def percent(ratio: float | None) -> str:
    """A share: `0 %`, `1.8 %`, `31 %`, `<0.1 %`; a dash when it was not measured."""
    if ratio is None:
        return "–"
    share = ratio * 100
    if 0 < share < 0.1:
        return "<0.1 %"
    return f"{share:.0f} %" if share >= 9.95 or share == 0 else f"{share:.1f} %"


def rate(per_second: float | None) -> str:
    """Requests in time: `5.2/s`, `12/min`; a dash when it was not measured."""
    if per_second is None:
        return "–"
    return f"{per_second:.3g}/s" if per_second >= 1 else f"{per_second * 60:.3g}/min"


def clock(at_s: float, now_s: float) -> str:
    """A point in time as a `<time>` element, in UTC: the hour today, the date before that."""
    at, now = datetime.fromtimestamp(at_s, tz=UTC), datetime.fromtimestamp(now_s, tz=UTC)
    words = f"{at:%H:%M:%S}" if at.date() == now.date() else f"{at:%d %b %H:%M}"
    return f'<time datetime="{at:%Y-%m-%dT%H:%M:%SZ}">{words}</time>'


def _named(match: re.Match[str]) -> str:
    return f"<U+{ord(match[0]):04X}>"
