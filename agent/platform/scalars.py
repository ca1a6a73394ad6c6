"""Single values: what an unquoted word is, and how the file spells quantities and secrets."""

from __future__ import annotations

import re
from typing import Any, Final

from agent.platform import describe
from agent.platform.tree import Scalar
from checks.secret import Secret

_INTEGER: Final = re.compile(r"[-+]?[0-9]+")
_FLOAT: Final = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_PASSWORD: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/@:]*:[^/@]+@", re.IGNORECASE)


def resolve(node: Scalar, text: str | None = None) -> object:
    """A plain value by YAML 1.2's core schema, in which `off` and `no` are words; quoted is always text."""
    written = node.text if text is None else text
    if not node.plain:
        return written
    if written in {"", "~", "null"}:
        return None
    if written in {"true", "false"}:
        return written == "true"
    if _INTEGER.fullmatch(written):
        return int(written) if len(written) < 20 else float(written)
    if _FLOAT.fullmatch(written):
        return float(written)
    return written


def hook(wanted: type[Any], value: object) -> Any:
    """Decode what the file spells its own way: durations, sizes, ratios and secrets."""
    if isinstance(value, wanted):
        return value
    if not isinstance(value, str):
        raise TypeError(f"{describe.shown(value)} is not {describe.expected(wanted)}")
    return Secret(value) if wanted is Secret else wanted.parse(value)


def has_password(text: str) -> bool:
    """Whether `text` is an address with a password in it."""
    return _PASSWORD.match(text) is not None
