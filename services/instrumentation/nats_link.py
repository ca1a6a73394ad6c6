"""nats-py behind our own types. The only file that imports it: its successor is one file away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final, cast

import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import BadRequestError
from nats.micro import add_service
from nats.micro.request import Request
from nats.micro.service import ServiceConfig

from services.instrumentation.cancellation import pass_cancellation_on
from services.instrumentation.message import LinkError, Message, Subscriber

_CONNECT_S: Final = 2.0
_PENDING_BYTES: Final = 1 << 20


async def connect(
    servers: list[str],
    *,
    name: str,
    on_disconnect: Callable[[], None],
    on_reconnect: Callable[[], Awaitable[None]],
) -> Link:
    """A link that reconnects for ever. Raises LinkError when no server answers now."""

    async def ignored(_error: Exception) -> None:
        # Each call tells its own caller; this one would tell of the same once more.
        return

    async def disconnected() -> None:
        on_disconnect()

    with _translated():
        client = await nats.connect(
            servers=servers,
            name=name,
            allow_reconnect=True,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.2,
            connect_timeout=_CONNECT_S,
            ping_interval=5,
            max_outstanding_pings=2,
            pending_size=_PENDING_BYTES,
            error_cb=ignored,
            disconnected_cb=disconnected,
            reconnected_cb=on_reconnect,
        )
    return Link(client)


class Link:
    """One connection to NATS, kept through every reconnect. Everything may raise LinkError."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stream: JetStreamContext = client.jetstream()
        self._subscriptions: list[Subscription] = []
        self._known = False

    @property
    def connected(self) -> bool:
        return self._client.is_connected

    @property
    def pending_bytes(self) -> int:
        """Accepted for sending and not yet written to the server."""
        return self._client.pending_data_size

    async def publish(self, subject: str, data: bytes, headers: Mapping[str, str]) -> None:
        with _translated():
            await self._client.publish(subject, data, headers=dict(headers))

    async def subscribe(self, subject: str, receive: Subscriber, *, queue: str = "") -> None:
        async def received(msg: Msg) -> None:
            await receive(Message(msg.subject, msg.data, msg.headers or {}))

        with _translated():
            self._subscriptions.append(await self._client.subscribe(subject, queue=queue, cb=received))

    async def flush(self, timeout_s: float) -> None:
        """Return once the server has answered for everything sent before."""
        with _translated():
            await self._client.flush(timeout=timeout_s)  # type: ignore[arg-type]  # Declared int.

    async def store(
        self, subject: str, data: bytes, headers: Mapping[str, str], *, stream: str, timeout_s: float
    ) -> int:
        """Publish to JetStream; the sequence once the stream's replicas have agreed."""
        with _translated():
            ack = await self._stream.publish(
                subject, data, timeout=timeout_s, stream=stream, headers=dict(headers)
            )
        return ack.seq

    async def ensure_stream(
        self, name: str, subject: str, *, replicas: int, age_s: float, dedupe_s: float
    ) -> None:
        """The stream is there with these limits, in files, on so many servers."""
        config = StreamConfig(
            name=name,
            subjects=[subject],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            num_replicas=replicas,
            max_age=age_s,
            duplicate_window=dedupe_s,
        )
        with _translated():
            try:
                await self._stream.add_stream(config)
            except BadRequestError:
                # It is there with other limits: ours are the wanted ones.
                await self._stream.update_stream(config)

    async def ensure_consumer(
        self, stream: str, name: str, *, filter_: str, ack_wait_s: float, deliveries: int, pending: int
    ) -> Pull:
        """The durable consumer is there with these limits; what is next in it."""
        config = ConsumerConfig(
            durable_name=name,
            filter_subject=filter_,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ack_wait_s,
            max_deliver=deliveries,
            max_ack_pending=pending,
        )
        with _translated():
            await self._stream.add_consumer(stream, config)
            return Pull(await self._stream.pull_subscribe_bind(name, stream))

    async def stored(self, stream: str, sequence: int) -> Message:
        """A message as the stream holds it."""
        with _translated():
            raw = await self._stream.get_msg(stream, sequence)
        return Message(raw.subject or "", raw.data or b"", raw.headers or {})

    async def make_known(
        self,
        name: str,
        *,
        version: str,
        metadata: Mapping[str, str],
        subject: str,
        answer: Callable[[], bytes],
    ) -> None:
        """Answer `$SRV.PING` and its like, and `subject` with `answer()`. Once; it survives reconnects."""
        if self._known:
            return

        async def handle(request: Request) -> None:
            await request.respond(answer())

        with _translated():
            service = await add_service(
                self._client,
                ServiceConfig(
                    name=name,
                    version=version,
                    description=f"{name} of the Gaia platform",
                    metadata=dict(metadata),
                ),
            )
            await service.add_endpoint(name="health", handler=handle, subject=subject)
        self._known = True

    async def drain(self) -> None:
        """Take nothing new; what was received is handled. Never raises."""
        for subscription in self._subscriptions:
            with suppress(Exception):
                async with asyncio.timeout(_CONNECT_S):
                    await cast("Any", subscription).drain()  # nats-py leaves it untyped

    async def close(self) -> None:
        with suppress(Exception):
            async with asyncio.timeout(_CONNECT_S):
                await self._client.close()


class Pull:
    """What a durable consumer has for us, when we ask."""

    def __init__(self, subscription: JetStreamContext.PullSubscription) -> None:
        self._subscription = subscription

    async def fetch(self, count: int, timeout_s: float) -> list[Delivery]:
        """Up to `count` messages; none when none came in time."""
        with _translated():
            try:
                batch = await self._subscription.fetch(count, timeout=timeout_s)
            except nats.errors.TimeoutError:
                pass_cancellation_on()
                return []
        return [Delivery(msg) for msg in batch]


class Delivery:
    """One message of a durable consumer, to be acknowledged, given back, or ended."""

    def __init__(self, msg: Msg) -> None:
        self._msg = msg
        self.message = Message(msg.subject, msg.data, msg.headers or {}, msg.metadata.num_delivered)

    async def ack(self) -> None:
        with _translated():
            await self._msg.ack()

    async def nak(self, delay_s: float) -> None:
        with _translated():
            await self._msg.nak(delay=delay_s)

    async def term(self) -> None:
        with _translated():
            await self._msg.term()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (nats.errors.Error, TimeoutError, OSError) as error:
        pass_cancellation_on()
        raise LinkError(type(error).__name__) from error
