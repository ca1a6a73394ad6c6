"""API keys: `gaia_<env>_<id>_<secret>`, checkable offline by their checksum, stored only as a hash."""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib
from dataclasses import dataclass
from typing import Final

from services.instrumentation.settings import Environment

_KEY: Final = re.compile(r"gaia_(dev|staging|prod)_([a-z0-9]{12})_([A-Za-z0-9]{32})([A-Za-z0-9]{6})")
_BASE62: Final = string.digits + string.ascii_letters
_ID_LETTERS: Final = string.ascii_lowercase + string.digits


@dataclass(frozen=True, slots=True, repr=False)
class ApiKey:
    """One key in full. Shown to its owner once, never again."""

    environment: str
    key_id: str
    secret: str

    def __str__(self) -> str:
        body = f"gaia_{self.environment}_{self.key_id}_{self.secret}"
        return body + _checksum(body)

    @property
    def digest(self) -> bytes:
        """What is stored: SHA-256 is enough for 190 random bits."""
        return hashlib.sha256(str(self).encode()).digest()


def new_api_key(environment: Environment) -> ApiKey:
    key_id = "".join(secrets.choice(_ID_LETTERS) for _ in range(12))
    return ApiKey(environment.alias, key_id, "".join(secrets.choice(_BASE62) for _ in range(32)))


def parse_api_key(text: str, environment: Environment) -> ApiKey | None:
    """The key, or None: wrong form, wrong checksum (a typo), or another environment's. Asks no database."""
    match = _KEY.fullmatch(text)
    if match is None or match[1] != environment.alias:
        return None
    key = ApiKey(match[1], match[2], match[3])
    return key if secrets.compare_digest(str(key), text) else None


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode())
    letters = []
    for _ in range(6):
        number, index = divmod(number, 62)
        letters.append(_BASE62[index])
    return "".join(letters)
