"""A posted message's way: the durable stream, a worker that stores it once, the assistant's answer."""

from __future__ import annotations

import logging
import time
import uuid
from typing import Final

import msgspec

from services.chat.assistant import Assistant
from services.chat.events import Delta, EventHub
from services.chat.providers import Turn
from services.chat.store import Store
from services.instrumentation.jetstream import DurableConsumer, DurableStream
from services.instrumentation.kit import Instrumentation
from services.instrumentation.message import Message
from services.instrumentation.messaging import Broker

logger = logging.getLogger(__name__)

_HISTORY: Final = 20
_DELTA_EVERY_S: Final = 0.1
_ANSWERS_AT_ONCE: Final = 8
# Replies are named after what they reply to: whoever repeats the work makes the same message.
_REPLIES: Final = uuid.UUID("6c1c5d2c-0a55-4a6d-9d3e-54f1b0a8c7f0")


class Posted(msgspec.Struct, frozen=True):
    """What the stream carries."""

    id: str
    room: str
    author: str
    text: str
    reply: bool = False


class Delivery:
    """Accepts messages only when they are stored durably, and stores each once, delivered how often ever."""

    def __init__(
        self, kit: Instrumentation, broker: Broker, *, store: Store, hub: EventHub, assistant: Assistant
    ) -> None:
        self._store = store
        self._hub = hub
        self._assistant = assistant
        self._stream = DurableStream(kit, broker, name="CHAT", topic="chat")
        DurableConsumer(
            kit, broker, self._stream, name="store", filter_="post.*", handler=self._stored, at_once=16
        )
        DurableConsumer(
            kit,
            broker,
            self._stream,
            name="answer",
            filter_="ask.*",
            handler=self._answered,
            at_once=_ANSWERS_AT_ONCE,
            ack_wait_s=assistant.deadline_s + 15,
        )

    async def post(self, posted: Posted) -> None:
        """Return once the message survives a crash. Raises UnavailableError: then it was not accepted."""
        await self._stream.publish(
            self._stream.subject("post", posted.room),
            msgspec.json.encode(posted),
            template="gaia.{env}.chat.post.{room}",
            message_id=f"{posted.author}/{posted.id}",
        )

    async def _stored(self, message: Message) -> None:
        posted = msgspec.json.decode(message.data, type=Posted)
        stored = await self._store.add_message(
            message_id=posted.id, room=posted.room, author=posted.author, kind="user", text=posted.text
        )
        if stored is not None:
            await self._hub.announce(stored)
        if posted.reply:
            await self._stream.publish(
                self._stream.subject("ask", posted.room),
                message.data,
                template="gaia.{env}.chat.ask.{room}",
                message_id=f"ask/{posted.id}",
            )

    async def _answered(self, message: Message) -> None:
        posted = msgspec.json.decode(message.data, type=Posted)
        if await self._store.replied(posted.id):
            return
        history = await self._store.messages(posted.room, after=0, limit=_HISTORY)
        turns = [Turn(role=m.kind, text=m.text) for m in history] or [Turn(role="user", text=posted.text)]
        told_s = 0.0

        async def progress(text: str) -> None:
            # The text so far, not the last piece: a missed event costs nothing, a fail-over starts over.
            nonlocal told_s
            if time.monotonic() - told_s >= _DELTA_EVERY_S:
                told_s = time.monotonic()
                await self._hub.announce(Delta(posted.room, posted.id, text))

        answer = await self._assistant.answer(turns, progress)
        stored = await self._store.add_message(
            message_id=str(uuid.uuid5(_REPLIES, posted.id)),
            room=posted.room,
            author="assistant",
            kind="assistant",
            text=answer.text,
            in_reply_to=posted.id,
            provider=answer.provider,
        )
        if stored is not None:
            await self._hub.announce(stored)
