"""The chat service."""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import Annotated, Final

import msgspec
from aiohttp import web

from services.chat.assistant import Assistant
from services.chat.delivery import Delivery, Posted
from services.chat.events import EventHub
from services.chat.store import ChatMessage, Room, Store
from services.instrumentation.authentication import Authenticator, caller, remote_verifier
from services.instrumentation.client import HttpClient
from services.instrumentation.database import Database
from services.instrumentation.health import Criticality
from services.instrumentation.kit import Instrumentation
from services.instrumentation.messaging import Broker
from services.instrumentation.problem import ProblemError
from services.instrumentation.registration import Registration
from services.instrumentation.routes import Operation, answer, application, parse_body

_PREFIX: Final = "/api/v1/chat"
_PAGE: Final = 100
_ROOM: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")

RoomId = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
Title = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=8000, pattern=r"^[^\x00]*$")]
MessageId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]


class NewRoom(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: RoomId
    title: Title


class NewMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`id` makes a repeated POST harmless; `reply` asks the assistant to answer."""

    text: Text
    id: MessageId | None = None
    reply: bool = False


class AcceptedAnswer(msgspec.Struct, frozen=True):
    id: str
    status: str


class RoomsAnswer(msgspec.Struct, frozen=True):
    rooms: tuple[Room, ...]


class MessagesAnswer(msgspec.Struct, frozen=True):
    messages: tuple[ChatMessage, ...]


class ChatService:
    """Handlers over rooms, the durable stream and the event hub."""

    def __init__(self, kit: Instrumentation) -> None:
        self._kit = kit
        self._database = Database(kit, schema="chat", migrations=Path(__file__).with_name("migrations"))
        self._broker = Broker(kit, criticality=Criticality.REQUIRED)
        Registration(kit, self._broker)
        self._store = Store(self._database)
        client = HttpClient(kit)
        self._authenticator = Authenticator(kit, remote_verifier(kit, client, self._broker))
        self._hub = EventHub(kit, self._broker, self._store)
        self._delivery = Delivery(
            kit, self._broker, store=self._store, hub=self._hub, assistant=Assistant(kit, client)
        )

    def application(self) -> web.Application:
        guard = self._authenticator.middleware
        app = application(self._kit, "Gaia chat", self.operations(), guard=guard)
        app.on_shutdown.append(self._hub.say_goodbye)
        return app

    def operations(self) -> tuple[Operation, ...]:
        room = f"{_PREFIX}/rooms/{{room}}"
        return (
            Operation(
                method="POST",
                path=f"{_PREFIX}/rooms",
                handler=self._add_room,
                body=NewRoom,
                returns=Room,
                status=201,
                summary="Open a room.",
            ),
            Operation(
                method="GET",
                path=f"{_PREFIX}/rooms",
                handler=self._rooms,
                returns=RoomsAnswer,
                summary="The newest rooms.",
            ),
            Operation(
                method="POST",
                path=f"{room}/messages",
                handler=self._post,
                body=NewMessage,
                returns=AcceptedAnswer,
                status=202,
                summary="Send a message: 202 once it is stored durably.",
            ),
            Operation(
                method="GET",
                path=f"{room}/messages",
                handler=self._messages,
                returns=MessagesAnswer,
                summary="Messages in order.",
                query=(("after", "only those after this seq"),),
            ),
            Operation(
                method="GET",
                path=f"{room}/events",
                handler=self._events,
                summary="Server-sent events: one per message, from Last-Event-ID on.",
            ),
        )

    async def _add_room(self, request: web.Request) -> web.Response:
        body = await parse_body(request, NewRoom)
        room = await self._store.add_room(body.id, body.title, caller().subject)
        if room is None:
            raise ProblemError(409, "a room of this name is open already", reason="already_exists")
        return answer(room, 201)

    async def _rooms(self, _request: web.Request) -> web.Response:
        return answer(RoomsAnswer(tuple(await self._store.rooms(_PAGE))))

    async def _post(self, request: web.Request) -> web.Response:
        room = await self._room(request)
        body = await parse_body(request, NewMessage)
        posted = Posted(
            id=body.id or str(uuid.uuid4()),
            room=room.id,
            author=caller().subject,
            text=body.text,
            reply=body.reply,
        )
        await self._delivery.post(posted)
        return answer(AcceptedAnswer(posted.id, "accepted"), 202)

    async def _messages(self, request: web.Request) -> web.Response:
        room = await self._room(request)
        after = parse_sequence(request.query.get("after", "0"))
        return answer(MessagesAnswer(tuple(await self._store.messages(room.id, after=after, limit=_PAGE))))

    async def _events(self, request: web.Request) -> web.StreamResponse:
        room = await self._room(request)
        last = request.headers.get("Last-Event-ID")
        return await self._hub.stream(request, room.id, None if last is None else parse_sequence(last))

    async def _room(self, request: web.Request) -> Room:
        name = request.match_info["room"]
        room = await self._store.room(name) if _ROOM.fullmatch(name) else None
        if room is None:
            raise ProblemError(404, "there is no such room", reason="not_found")
        return room


def parse_sequence(text: str) -> int:
    """Raises ProblemError 400."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ProblemError(400, "a sequence number is wanted", reason="invalid_sequence")
    return int(text)
