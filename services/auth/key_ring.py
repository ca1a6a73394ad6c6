"""The signing keys in PostgreSQL: current, next (published early) and previous (until its tokens end)."""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from typing import Final

from services.instrumentation.authentication import AUDIENCE, issuer_name
from services.instrumentation.context import Identity
from services.instrumentation.database import Connection, Database
from services.instrumentation.kit import Instrumentation
from services.instrumentation.problem import UnavailableError
from services.instrumentation.tokens import SigningKey, jwks

logger = logging.getLogger(__name__)

TOKEN_LIFETIME_S: Final = 900
_OVERLAP_S: Final = 2 * TOKEN_LIFETIME_S
_REREAD_S: Final = 15.0


class KeyRing:
    """Signs with the current key; every instance reads the same ring and rereads it when it is old."""

    def __init__(self, kit: Instrumentation, database: Database) -> None:
        self._kit = kit
        self._database = database
        self._keys: list[tuple[str, SigningKey]] = []
        self._read_s = float("-inf")
        # Private keys lie encrypted in the database: a copy of it alone signs nothing.
        secret = kit.settings.options.get("SIGNING_SECRET") or (
            kit.settings.api_key.reveal() if kit.settings.api_key else ""
        )
        self._password = hashlib.sha256(b"gaia signing keys " + secret.encode()).hexdigest().encode()

    async def keys(self) -> list[tuple[str, SigningKey]]:
        """(state, key) of every key that may still verify. Stale ones while the database is away."""
        if time.monotonic() - self._read_s > _REREAD_S:
            try:
                await self.reread()
            except UnavailableError:
                if not self._keys:
                    raise
        return self._keys

    async def sign(self, identity: Identity) -> tuple[str, str]:
        """(token, token id) for `identity`, signed by the current key."""
        for state, key in await self.keys():
            if state == "current":
                token_id = secrets.token_urlsafe(12)
                token = key.sign(
                    identity,
                    issuer=issuer_name(self._kit.settings),
                    audience=AUDIENCE,
                    lifetime_s=TOKEN_LIFETIME_S,
                    token_id=token_id,
                )
                return token, token_id
        raise UnavailableError("there is no signing key", reason="keys_unavailable")

    async def public(self) -> dict[str, list[dict[str, str]]]:
        return jwks([key for _, key in await self.keys()])

    async def reread(self) -> None:
        """Read the ring, making current and next keys where there are none."""
        async with self._database.transaction() as connection:
            await _lock(connection)
            rows = await connection.fetch("select kid, pem, state from signing_keys order by state")
            states = {row["state"] for row in rows}
            for state in ("current", "next"):
                if state not in states:
                    await self._insert(connection, state)
            if not {"current", "next"} <= states:
                rows = await connection.fetch("select kid, pem, state from signing_keys order by state")
        self._keys = [
            (row["state"], SigningKey.from_pem(row["kid"], row["pem"].encode(), self._password))
            for row in rows
        ]
        self._read_s = time.monotonic()

    async def rotate(self) -> str:
        """Next becomes current, current previous; a new next is published. Returns the current key's id."""
        async with self._database.transaction() as connection:
            await _lock(connection)
            await connection.execute(
                "delete from signing_keys where state = 'previous' "
                "and retired_at < now() - make_interval(secs => $1)",
                float(_OVERLAP_S),
            )
            await connection.execute(
                "update signing_keys set state = 'previous', retired_at = now() where state = 'current'"
            )
            kid = await connection.fetchval(
                "update signing_keys set state = 'current' where state = 'next' returning kid"
            )
            await self._insert(connection, "next")
        await self.reread()
        logger.info("keys.rotated", extra={"kid": kid})
        return str(kid)

    async def _insert(self, connection: Connection, state: str) -> None:
        key = SigningKey.generate(secrets.token_hex(8))
        await connection.execute(
            "insert into signing_keys (kid, pem, state) values ($1, $2, $3)",
            key.kid,
            key.to_pem(self._password).decode(),
            state,
        )


async def _lock(connection: Connection) -> None:
    # Two instances starting together must not both make a first key.
    await connection.execute("select pg_advisory_xact_lock(hashtext('gaia signing keys'))")
