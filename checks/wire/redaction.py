"""What a target said, fit for people: short, printable, without what looks like a secret."""

from __future__ import annotations

import re
from typing import Final

_EXCERPT_BYTES: Final = 400
# What people put into JSON and must not appear on a page.
_SENSITIVE: Final = re.compile(
    r"""(?i)(["']?[\w.-]*(?:password|passwd|secret|token|api[_-]?key|authorization|credential|dsn|cookie)[\w.-]*["']?"""
    r"""\s*[:=]\s*)("(?:[^"\\]|\\.)*"?|[^\s,;&}]+)"""
)
_USERINFO: Final = re.compile(r"(\w+://)[^/\s@\"']+@")
_BEARER: Final = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}")


def redacted(body: bytes) -> str:
    """The first bytes of a body for people, without what looks like a secret."""
    text = body[: _EXCERPT_BYTES * 2].decode("utf-8", "replace")
    text = _USERINFO.sub(r"\1***@", _BEARER.sub(r"\1 ***", _SENSITIVE.sub(r"\1***", text)))
    printable = "".join(letter if letter.isprintable() else " " for letter in text[:_EXCERPT_BYTES])
    return printable.strip()
