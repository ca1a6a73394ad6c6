"""What a target said, fit for people: short, printable, without what looks like a secret."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from checks.finding import Evidence, Finding

_EXCERPT_BYTES: Final = 400
_LEAST_SECRET: Final = 4
# What people put into JSON and must not appear on a page.
_SENSITIVE: Final = re.compile(
    r"""(?i)(["']?[\w.-]*(?:password|passwd|secret|token|api[_-]?key|authorization|credential|dsn|cookie)[\w.-]*["']?"""
    r"""\s*[:=]\s*)("(?:[^"\\]|\\.)*"?|[^\s,;&}]+)"""
)
# All of it: what follows the scheme is the secret.
_AUTHORIZATION: Final = re.compile(r"(?i)(authorization[\"']?\s*[:=]\s*[\"']?)[^\r\n\"',}]+")
_USERINFO: Final = re.compile(r"(\w+://)[^/\s@\"']+@")
_BEARER: Final = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}")


def redacted(body: bytes) -> str:
    """The first bytes of a body for people, without what looks like a secret."""
    return tidy(body[: _EXCERPT_BYTES * 2].decode("utf-8", "replace"))[:_EXCERPT_BYTES].strip()


def tidy(text: str) -> str:
    """What a target said, on one printable line and without what looks like a secret."""
    text = _BEARER.sub(r"\1 ***", _AUTHORIZATION.sub(r"\1***", text))
    text = _USERINFO.sub(r"\1***@", _SENSITIVE.sub(r"\1***", text))
    return "".join(letter if letter.isprintable() else " " for letter in text)


class Redactor:
    """Takes known secrets out of what people see: a target may send back what it was sent, even cut short."""

    __slots__ = ("_secrets",)

    def __init__(self, secrets: Iterable[str]) -> None:
        # Longest first: one secret may be part of another. Very short ones are words that occur anyway.
        self._secrets = sorted({one for one in secrets if len(one) >= _LEAST_SECRET}, key=len, reverse=True)

    def text(self, text: str) -> str:
        """`text` without any secret, and without the beginning of one."""
        for secret in self._secrets:
            start = text.find(secret[:_LEAST_SECRET])
            while start >= 0:
                size = _LEAST_SECRET
                while size < len(secret) and text[start + size : start + size + 1] == secret[size]:
                    size += 1
                text = f"{text[:start]}***{text[start + size :]}"
                start = text.find(secret[:_LEAST_SECRET], start + 3)
        return text

    def finding(self, finding: Finding, address: str) -> Finding:
        """`finding` with its message, save the target's own `address`, and its evidence cleaned."""
        if not self._secrets:
            return finding
        return replace(
            finding,
            message=address + self.text(finding.message.removeprefix(address))
            if finding.message.startswith(address)
            else self.text(finding.message),
            evidence=tuple(
                Evidence(name=self.text(fact.name), value=self.text(fact.value)) for fact in finding.evidence
            ),
        )
