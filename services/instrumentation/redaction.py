"""No secret leaves the process: a wrapper for secret values and a filter for every line written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import unquote, urlsplit

MASK: Final = "***"

# None of these may match a double quote or a backslash: the filter runs over finished JSON lines.
_SHAPES: Final = (
    r"eyJ[\w-]{5,}\.[\w-]{4,}(?:\.[\w-]*)?",  # JSON Web Token
    r"(?<![\w-])sk-[\w-]{8,}",  # OpenAI and Anthropic keys
    r"FlyV1 [\w+/=,.-]+",  # Fly.io tokens
    r"gaia_(?:dev|staging|prod)_[a-z0-9]{8,}_[A-Za-z0-9]{16,}",  # our API keys
    r"(?<=://)[^\s/@\"\\]+(?=@)",  # user information of a URL
    r"(?:(?<=[Bb]earer )|(?<=BEARER ))[^\s\"\\]+",
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[^\"]*",
)
# Whatever matches a shape holds one of these.
_MARKS: Final = ("eyJ", "sk-", "FlyV1 ", "gaia_", "://", "earer ", "EARER ", "PRIVATE KEY")
_SECRET_NAME: Final = re.compile(r"(KEY|SECRET|TOKEN|PASSWORD|DSN)$")
_SHORTEST_SECRET: Final = 6


class Secret:
    """Wraps a secret string. Not a `str` subclass: such a subclass leaks through `json.dumps` and `%s`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself, for the one call that needs it."""
        return self._value

    def __repr__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)


class Redactor:
    """Replaces known secrets and everything shaped like one by `***`."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        literals = {form for secret in secrets if len(secret) >= _SHORTEST_SECRET for form in _forms(secret)}
        # Whole words only: a password called "postgres" must not eat the word postgresql.
        parts = [rf"(?<!\w){re.escape(literal)}(?!\w)" for literal in sorted(literals, key=len, reverse=True)]
        self._pattern = re.compile("|".join((*parts, *_SHAPES)))
        self._marks = (*_MARKS, *literals)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Redactor:
        """Knows the values of `…KEY`, `…SECRET`, `…TOKEN`, `…PASSWORD`, and the password of every `…_URL`."""
        secrets = [value for name, value in environ.items() if _SECRET_NAME.search(name)]
        for name, value in environ.items():
            if name.endswith("_URL"):
                secrets.extend(_passwords(value))
        return cls(secrets)

    def redact(self, text: str) -> str:
        """`text` with every secret masked; almost free when nothing in it looks like one."""
        for mark in self._marks:
            if mark in text:
                return self._pattern.sub(MASK, text)
        return text


def _passwords(urls: str) -> list[str]:
    found: list[str] = []
    for url in urls.split(","):
        try:
            password = urlsplit(url.strip()).password
        except ValueError:
            continue
        if password:
            found.extend((password, unquote(password)))
    return found


def _forms(secret: str) -> tuple[str, ...]:
    # As it is, and as it stands in JSON, with and without \u escapes.
    return (secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
