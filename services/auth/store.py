"""Users, API keys and revocations in PostgreSQL."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from services.instrumentation.api_key import ApiKey
from services.instrumentation.database import Database

_REVOKED_SHOWN: Final = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    user_id: str
    email: str
    password_hash: str
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """An API key as its owner may see it."""

    key_id: str
    user_id: str
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    digest: bytes


class Store:
    """Every query of the auth service."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_user(self, email: str, password_hash: str) -> User:
        """Raises UniqueViolationError when the address is taken."""
        user_id = uuid.uuid4()
        await self._database.execute(
            "insert into users (id, email, password_hash) values ($1, $2, $3)", user_id, email, password_hash
        )
        return User(user_id=str(user_id), email=email, password_hash=password_hash, scopes=())

    async def user_by_email(self, email: str) -> User | None:
        row = await self._database.fetchrow(
            "select id, email, password_hash, scopes from users where email = $1", email
        )
        return (
            None
            if row is None
            else User(
                user_id=str(row["id"]),
                email=row["email"],
                password_hash=row["password_hash"],
                scopes=tuple(row["scopes"]),
            )
        )

    async def add_key(
        self, key: ApiKey, user_id: str, name: str, scopes: tuple[str, ...], limit: int
    ) -> bool:
        """False when the user already has `limit` active keys."""
        row = await self._database.fetchrow(
            "insert into api_keys (id, user_id, name, digest, scopes) select $1, $2, $3, $4, $5 "
            "where (select count(*) from api_keys where user_id = $2 and revoked_at is null) < $6 "
            "returning id",
            key.key_id,
            uuid.UUID(user_id),
            name,
            key.digest,
            list(scopes),
            limit,
        )
        return row is not None

    async def active_key(self, key_id: str) -> KeyRecord | None:
        rows = await self._keys("k.id = $1", key_id)
        return rows[0] if rows else None

    async def keys_of(self, user_id: str) -> list[KeyRecord]:
        return await self._keys("k.user_id = $1", uuid.UUID(user_id))

    async def _keys(self, where: str, value: object) -> list[KeyRecord]:
        rows = await self._database.fetch(
            "select k.id, k.user_id, k.name, k.digest, k.scopes, k.created_at from api_keys k "  # noqa: S608 (two fixed conditions)
            f"where {where} and k.revoked_at is null order by k.created_at",
            value,
        )
        return [
            KeyRecord(
                key_id=row["id"], user_id=str(row["user_id"]), name=row["name"], digest=row["digest"],
                scopes=tuple(row["scopes"]), created_at=row["created_at"],
            )
            for row in rows
        ]  # fmt: skip

    async def revoke_key(self, key_id: str, user_id: str) -> bool:
        row = await self._database.fetchrow(
            "update api_keys set revoked_at = now() where id = $1 and user_id = $2 and revoked_at is null "
            "returning id",
            key_id,
            uuid.UUID(user_id),
        )
        return row is not None

    async def revoke_token(self, token_id: str, expires_at_s: float) -> None:
        await self._database.execute(
            "insert into revoked_tokens (token_id, expires_at) values ($1, $2) on conflict do nothing",
            token_id,
            datetime.fromtimestamp(expires_at_s, UTC),
        )
        await self._database.execute(
            "delete from revoked_tokens where expires_at < now() - interval '1 hour'"
        )

    async def revoked_tokens(self) -> list[tuple[str, float]]:
        """The newest tokens revoked and not yet expired."""
        rows = await self._database.fetch(
            "select token_id, extract(epoch from expires_at)::float8 as until from revoked_tokens "
            "where expires_at > now() order by expires_at desc limit $1",
            _REVOKED_SHOWN,
        )
        return [(row["token_id"], row["until"]) for row in rows]
