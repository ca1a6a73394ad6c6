"""Server-sent events: each instance hears of stored messages over NATS and tells its own readers."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import msgspec
from aiohttp import web

from services.chat.store import ChatMessage, Store
from services.instrumentation.kit import Instrumentation
from services.instrumentation.message import Message
from services.instrumentation.messaging import Broker
from services.instrumentation.problem import UnavailableError
from services.instrumentation.server_events import CONTENT_TYPE, GOODBYE
from services.instrumentation.server_events import event as event_bytes

logger = logging.getLogger(__name__)

SUBJECT: Final = "chatevents"
TEMPLATE: Final = "gaia.{env}.chatevents.{room}"
_QUEUE: Final = 256
_READERS: Final = 2_000
_HEARTBEAT_S: Final = 15.0
_REPLAY: Final = 500


class Delta(msgspec.Struct, frozen=True):
    """A piece of an answer that is still being written."""

    room: str
    in_reply_to: str
    text: str


class _Reader:
    """One open stream. One that falls behind is told to come back; Last-Event-ID keeps its place."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue(_QUEUE)
        self.seen = 0

    def offer(self, event: bytes | None) -> None:
        if self.queue.full():
            while not self.queue.empty():
                self.queue.get_nowait()
            event = None
        self.queue.put_nowait(event)


class EventHub:
    """The readers of this instance, by room."""

    def __init__(self, kit: Instrumentation, broker: Broker, store: Store) -> None:
        self._broker = broker
        self._store = store
        self._settings = kit.settings
        self._readers: dict[str, set[_Reader]] = {}
        self._leaving = False
        gauge = kit.metrics.gauge("chat_open_streams", "Readers of server-sent events.")
        gauge.set_function(lambda: sum(len(readers) for readers in self._readers.values()))
        broker.subscribe(kit.settings.subject(SUBJECT, "*"), self._heard, template=TEMPLATE)

    async def announce(self, message: ChatMessage | Delta) -> None:
        """Tell every instance. Best effort: who misses it finds it in the database on the next visit."""
        subject = self._settings.subject(SUBJECT, message.room)
        try:
            await self._broker.publish(subject, msgspec.json.encode(message), template=TEMPLATE)
        except UnavailableError:
            logger.warning("chat.event_lost", extra={"room": message.room})

    async def _heard(self, message: Message) -> None:
        room = message.subject.rpartition(".")[2]
        readers = self._readers.get(room)
        if not readers:
            return
        if b'"seq":' not in message.data:
            event = event_bytes("delta", None, message.data)
            for reader in readers:
                reader.offer(event)
            return
        stored = msgspec.json.decode(message.data, type=ChatMessage)
        event = event_bytes("message", stored.seq, message.data)
        for reader in readers:
            if stored.seq > reader.seen:
                reader.seen = stored.seq
                reader.offer(event)

    async def stream(self, request: web.Request, room: str, last: int | None) -> web.StreamResponse:
        """Send what came after `last`, then each message as it is stored, until either side leaves."""
        if sum(len(readers) for readers in self._readers.values()) >= _READERS or self._leaving:
            raise UnavailableError("no more readers fit here", reason="too_many_streams")
        reader = _Reader()
        readers = self._readers.setdefault(room, set())
        readers.add(reader)
        try:
            # Registered before the database is read: nothing falls between the two.
            missed = await self._store.messages(room, after=last, limit=_REPLAY) if last is not None else []
            response = web.StreamResponse(
                headers={
                    "Content-Type": f"{CONTENT_TYPE}; charset=utf-8",
                    "Cache-Control": "no-store",
                    "X-Accel-Buffering": "no",
                }
            )
            await response.prepare(request)
            await response.write(b"retry: 1000\n\n")
            for message in missed:
                if message.seq > reader.seen:
                    reader.seen = message.seq
                    await response.write(event_bytes("message", message.seq, msgspec.json.encode(message)))
            await self._pump(reader, response)
        finally:
            readers.discard(reader)
            if not readers:
                self._readers.pop(room, None)
        return response

    async def _pump(self, reader: _Reader, response: web.StreamResponse) -> None:
        while True:
            try:
                async with asyncio.timeout(_HEARTBEAT_S):
                    event = await reader.queue.get()
            except TimeoutError:
                await response.write(b": still here\n\n")
                continue
            if event is None:
                await response.write(GOODBYE)
                await response.write_eof()
                return
            await response.write(event)

    async def say_goodbye(self, _app: web.Application) -> None:
        """End every stream with an event instead of a reset."""
        self._leaving = True
        for readers in self._readers.values():
            for reader in readers:
                reader.offer(None)
