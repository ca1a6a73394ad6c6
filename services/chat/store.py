"""Rooms and messages in PostgreSQL."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Final

import msgspec

from services.instrumentation.database import Database, Row, UniqueViolationError

_MESSAGE: Final = "id, seq, room, author, kind, text, in_reply_to, provider, created_at"


class Room(msgspec.Struct, frozen=True):
    id: str
    title: str
    owner: str
    created_at: datetime


class ChatMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A stored message; `seq` orders the room and is the id of its event."""

    id: str
    seq: int
    room: str
    author: str
    kind: str
    text: str
    created_at: datetime
    in_reply_to: str | None = None
    provider: str | None = None


class Store:
    """Every query of the chat service."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_room(self, room_id: str, title: str, owner: str) -> Room | None:
        """None when the id is taken."""
        try:
            row = await self._database.fetchrow(
                "insert into rooms (id, title, owner) values ($1, $2, $3) returning *", room_id, title, owner
            )
        except UniqueViolationError:
            return None
        assert row is not None
        return _room(row)

    async def rooms(self, limit: int) -> list[Room]:
        rows = await self._database.fetch("select * from rooms order by created_at desc, id limit $1", limit)
        return [_room(row) for row in rows]

    async def room(self, room_id: str) -> Room | None:
        row = await self._database.fetchrow("select * from rooms where id = $1", room_id)
        return None if row is None else _room(row)

    async def add_message(
        self, *, message_id: str, room: str, author: str, kind: str, text: str,
        in_reply_to: str | None = None, provider: str | None = None,
    ) -> ChatMessage | None:  # fmt: skip
        """The stored message; None when it was stored before (a redelivery) or its room is gone."""
        row = await self._database.fetchrow(
            "insert into messages (id, room, author, kind, text, in_reply_to, provider) "  # noqa: S608 (fixed columns)
            "select $1, $2, $3, $4, $5, $6, $7 where exists (select from rooms where id = $2) "
            f"on conflict do nothing returning {_MESSAGE}",
            uuid.UUID(message_id),
            room,
            author,
            kind,
            text,
            uuid.UUID(in_reply_to) if in_reply_to else None,
            provider,
        )
        return None if row is None else _message(row)

    async def message(self, message_id: str) -> ChatMessage | None:
        row = await self._database.fetchrow(
            f"select {_MESSAGE} from messages where id = $1",  # noqa: S608 (fixed columns)
            uuid.UUID(message_id),
        )
        return None if row is None else _message(row)

    async def replied(self, message_id: str) -> bool:
        return await self._database.fetchrow(
            "select 1 from messages where in_reply_to = $1", uuid.UUID(message_id)
        ) is not None  # fmt: skip

    async def messages(self, room: str, *, after: int, limit: int) -> list[ChatMessage]:
        """Messages later than `after`, in order; the newest `limit` of the room when `after` is 0."""
        order = "desc" if after == 0 else "asc"
        rows = await self._database.fetch(
            f"select {_MESSAGE} from messages where room = $1 and seq > $2 order by seq {order} limit $3",  # noqa: S608
            room,
            after,
            limit,
        )
        found = [_message(row) for row in rows]
        return found[::-1] if after == 0 else found


def _room(row: Row) -> Room:
    return Room(row["id"], row["title"], row["owner"], row["created_at"])


def _message(row: Row) -> ChatMessage:
    return ChatMessage(
        id=str(row["id"]),
        seq=row["seq"],
        room=row["room"],
        author=row["author"],
        kind=row["kind"],
        text=row["text"],
        created_at=row["created_at"],
        provider=row["provider"],
        in_reply_to=str(row["in_reply_to"]) if row["in_reply_to"] else None,
    )
