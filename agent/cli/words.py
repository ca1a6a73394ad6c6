"""Words of strangers on a terminal."""

from __future__ import annotations


def clean(text: str) -> str:
    """Nothing from a target may move the cursor or reorder a terminal's line."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)
