"""Passwords as scrypt hashes, computed in two threads so that no sign-in stalls another request."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from services.instrumentation.problem import UnavailableError

# 16 MiB and about 50 ms each: two at once fit beside everything else in 256 MB.
_N: Final = 2**14
_R: Final = 8
_P: Final = 1
_THREADS: Final = 2
_WAITING: Final = 32

T = TypeVar("T")


class Passwords:
    """Hashes and checks. Refuses with 503 when too many are waiting, instead of queueing without end."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="password")
        self._waiting = 0
        # Checked when there is no such user, so that the answer takes as long.
        self._decoy = _hash("no such user", b"0123456789abcdef")

    async def hash(self, password: str) -> str:
        return await self._run(lambda: _hash(password, secrets.token_bytes(16)))

    async def matches(self, password: str, stored: str | None) -> bool:
        """Whether `password` is the one behind `stored`; just as slow when there is none."""
        matched = await self._run(lambda: _matches(password, stored or self._decoy))
        return bool(matched) and stored is not None

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= _WAITING:
            raise UnavailableError("too many sign-ins at once", reason="overloaded")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _hash(password: str, salt: bytes) -> str:
    key = hashlib.scrypt(password.encode(), salt=salt, n=_N, r=_R, p=_P, dklen=32)
    return f"scrypt${_N}${_R}${_P}${_b64(salt)}${_b64(key)}"


def _matches(password: str, stored: str) -> bool:
    _, n, r, p, salt, key = stored.split("$")
    expected = base64.b64decode(key)
    given = hashlib.scrypt(
        password.encode(), salt=base64.b64decode(salt), n=int(n), r=int(r), p=int(p), dklen=len(expected)
    )
    return hmac.compare_digest(given, expected)


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
