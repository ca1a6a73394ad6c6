"""Public keys of token issuers: fetched rarely, kept while the issuer is down, immune to unknown ids."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from services.instrumentation.problem import UnavailableError
from services.instrumentation.tokens import (
    Issuer,
    Refusal,
    TokenError,
    VerificationKey,
    Verified,
    kid_of,
    read_keys,
    verify,
)

logger = logging.getLogger(__name__)

TTL_S: Final = 300.0
UNKNOWN_KEY_PAUSE_S: Final = 30.0
_FAILED_PAUSE_S: Final = 1.0
_REVOKED_LIMIT: Final = 10_000
_TOKENS_LIMIT: Final = 2_048

Fetch = Callable[[Issuer], Awaitable[bytes]]


class KeyCache:
    """The last good keys of one issuer."""

    def __init__(self, issuer: Issuer, fetch: Fetch, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.issuer = issuer
        self.fetches = 0
        self.revoked: dict[str, float] = {}
        self._fetch = fetch
        self._clock = clock
        self._keys: Mapping[str, VerificationKey] | None = None
        self._fetched_s = 0.0
        self._tried_s = float("-inf")
        self._unknown_s = float("-inf")
        self._flight: asyncio.Task[None] | None = None

    @property
    def loaded(self) -> bool:
        return self._keys is not None

    async def get(self, kid: str) -> VerificationKey | None:
        """The key, or None when there is none. Raises UnavailableError before the first success."""
        now = self._clock()
        if self._keys is None:
            if now - self._tried_s >= _FAILED_PAUSE_S or self._flight is not None:
                await self.refresh()
            if self._keys is None:
                raise UnavailableError("the token issuer's keys cannot be had now", reason="keys_unavailable")
        elif now - self._fetched_s > TTL_S and now - self._tried_s >= _FAILED_PAUSE_S:
            # Stale keys serve while new ones are fetched, and for as long as the issuer is away.
            self._start()
        key = self._keys.get(kid)
        if key is None and now - self._unknown_s >= UNKNOWN_KEY_PAUSE_S:
            self._unknown_s = now
            await self.refresh()
        elif key is None and self._flight is not None:
            await self.refresh()
        return self._keys.get(kid)

    async def refresh(self) -> None:
        """Fetch now, or wait for the fetch under way; failure leaves the last good keys in place."""
        # Shielded: the caller that started it may go away, those who joined still want the result.
        await asyncio.shield(self._start())

    def _start(self) -> asyncio.Task[None]:
        if self._flight is None:
            self._tried_s = self._clock()
            self._flight = asyncio.create_task(self._load(), name="fetch keys")
        return self._flight

    async def _load(self) -> None:
        self.fetches += 1
        try:
            document = await self._fetch(self.issuer)
            self._keys, self._fetched_s = read_keys(document, self.issuer), self._clock()
            self._note_revoked(document)
        except Exception as error:
            logger.warning(
                "keys.not_fetched", extra={"issuer": self.issuer.name, "error": type(error).__name__}
            )
        finally:
            self._flight = None

    def _note_revoked(self, document: bytes) -> None:
        # Our own issuer adds what it revoked; others have no such member.
        for entry in msgspec.json.decode(document, type=dict[str, Any]).get("revoked", ()):
            self.revoke(str(entry[0]), float(entry[1]))

    def revoke(self, token_id: str, expires_at_s: float) -> None:
        """Refuse the token, or every token of the API key, from now on. Bounded: the oldest give way."""
        self.revoked[token_id] = expires_at_s
        if len(self.revoked) > _REVOKED_LIMIT:
            now_s = time.time()
            expired = [key for key, until in self.revoked.items() if until < now_s]
            for old in expired or [next(iter(self.revoked))]:
                del self.revoked[old]


class Verifier:
    """Accepts tokens of the configured issuers. Remembers accepted tokens: a signature is checked once."""

    def __init__(self, caches: tuple[KeyCache, ...]) -> None:
        self.caches = caches
        self._accepted: OrderedDict[str, tuple[Verified, KeyCache]] = OrderedDict()

    async def verify(self, token: str) -> Verified:
        """Raises TokenError, or UnavailableError when no issuer's keys were ever had."""
        known = self.remembered(token)
        if known is not None:
            return known
        verified, cache = await self._check(token)
        self._accepted[token] = (verified, cache)
        if len(self._accepted) > _TOKENS_LIMIT:
            self._accepted.popitem(last=False)
        _refuse_revoked(verified, cache)
        return verified

    def remembered(self, token: str) -> Verified | None:
        """What a token accepted before says; None for one not seen. Raises TokenError when it is over."""
        known = self._accepted.get(token)
        if known is None:
            return None
        verified, cache = known
        if verified.expires_at_s < time.time():
            del self._accepted[token]
            raise TokenError(Refusal.EXPIRED)
        self._accepted.move_to_end(token)
        _refuse_revoked(verified, cache)
        return verified

    async def _check(self, token: str) -> tuple[Verified, KeyCache]:
        kid = kid_of(token)
        unavailable: UnavailableError | None = None
        for cache in self.caches:
            try:
                key = await cache.get(kid)
            except UnavailableError as error:
                unavailable = error
                continue
            if key is not None:
                return verify(token, key), cache
        raise unavailable or TokenError(Refusal.UNKNOWN_KEY)


def _refuse_revoked(verified: Verified, cache: KeyCache) -> None:
    if verified.token_id in cache.revoked or verified.identity.key_id in cache.revoked:
        raise TokenError(Refusal.REVOKED)
