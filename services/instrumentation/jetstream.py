"""A durable queue on JetStream: each message handled at least once, or put aside when it never works."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

import msgspec

from services.instrumentation.kit import Instrumentation
from services.instrumentation.message import LinkError, Message, Subscriber
from services.instrumentation.messaging import Broker
from services.instrumentation.problem import UnavailableError

if TYPE_CHECKING:
    from services.instrumentation.nats_link import Delivery, Link

logger = logging.getLogger(__name__)

_DEDUPE_S: Final = 120.0
_AGE_S: Final = 7 * 86400.0
_FETCH_S: Final = 5.0
_PAUSES_S: Final = (0.2, 1.0, 5.0, 15.0)
_DEAD: Final = "dead"


class _Exhausted(msgspec.Struct, frozen=True):
    """The server's advisory when a message was delivered for the last time in vain."""

    stream_seq: int
    deliveries: int


class DurableStream:
    """One stream of this environment, with a second one for its dead letters; made on first connection."""

    def __init__(self, kit: Instrumentation, broker: Broker, *, name: str, topic: str) -> None:
        settings = kit.settings
        self.name = settings.stream(name)
        self.topic = topic
        self.dead_name = settings.stream(f"{name}_DEAD")
        self._replicas = settings.nats_replicas
        self._settings = settings
        self._broker = broker
        self.ready = asyncio.Event()
        broker.on_connect(self._create)

    def subject(self, *parts: str) -> str:
        return self._settings.subject(self.topic, *parts)

    def dead_subject(self, *parts: str) -> str:
        return self._settings.subject(f"{self.topic}{_DEAD}", *parts)

    async def publish(self, subject: str, data: bytes, *, template: str, message_id: str) -> int:
        """Store one message; the same id again within two minutes is dropped. Raises UnavailableError."""
        return await self._broker.publish_durable(
            subject, data, template=template, message_id=message_id, stream=self.name
        )

    async def _create(self, link: Link) -> None:
        for name, subject in ((self.name, self.subject(">")), (self.dead_name, self.dead_subject(">"))):
            await link.ensure_stream(name, subject, replicas=self._replicas, age_s=_AGE_S, dedupe_s=_DEDUPE_S)
        self.ready.set()


class DurableConsumer:
    """Hands the messages under one filter to `handler`; any number of instances share the work."""

    def __init__(  # noqa: PLR0913 (a consumer's limits belong beside each other)
        self,
        kit: Instrumentation,
        broker: Broker,
        stream: DurableStream,
        *,
        name: str,
        filter_: str,
        handler: Subscriber,
        at_once: int = 1,
        ack_wait_s: float = 30.0,
        deliveries: int = 5,
    ) -> None:
        """`filter_` is the subject below the stream's topic, such as `post.*`; it is also the label."""
        self._broker = broker
        self._stream = stream
        self._name = name
        self._filter = stream.subject(filter_)
        self._template = f"gaia.{{env}}.{stream.topic}.{filter_}"
        self._handler = handler
        self._at_once = at_once
        self._ack_wait_s = ack_wait_s
        self._deliveries = deliveries
        self._draining = False
        self._dead = kit.metrics.counter(
            f"messaging_{name}_dead_letters_total", "Messages put aside after failing every time."
        )
        broker.subscribe(
            f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{stream.name}.{name}",
            self._exhausted,
            queue=name,
            template="$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES",
        )
        kit.in_background(f"consumer {name}", self._run)
        kit.on_drain(self._drain)

    async def _drain(self) -> None:
        self._draining = True

    async def _run(self) -> None:
        await self._stream.ready.wait()
        while not self._draining:
            try:
                await self._consume()
            except (UnavailableError, LinkError) as error:
                kind = error.kind if isinstance(error, LinkError) else error.reason
                logger.info("consumer.waiting", extra={"consumer": self._name, "error": kind})
                await asyncio.sleep(0.2)
        await asyncio.Event().wait()

    async def _consume(self) -> None:
        pull = await self._broker.link().ensure_consumer(
            self._stream.name,
            self._name,
            filter_=self._filter,
            ack_wait_s=self._ack_wait_s,
            deliveries=self._deliveries,
            pending=max(64, self._at_once * 8),
        )
        while not self._draining:
            batch = await pull.fetch(self._at_once, _FETCH_S)
            if not batch:
                self._broker.link()  # Raises while disconnected, so that we subscribe again after.
            await asyncio.gather(*(self._handle(delivery) for delivery in batch))

    async def _handle(self, delivery: Delivery) -> None:
        self._broker.consumed.labels("nats", self._template).inc()
        message = delivery.message
        if await self._broker.process(message, self._template, self._handler):
            # Acknowledged after the work: a crash in between delivers again, and the work is idempotent.
            await delivery.ack()
        elif message.delivered >= self._deliveries:
            await self._bury(message, f"failed {message.delivered} times")
            await delivery.term()
        else:
            await delivery.nak(_PAUSES_S[min(message.delivered, len(_PAUSES_S)) - 1])

    async def _exhausted(self, advisory: Message) -> None:
        """A message ended without our word: the process that handled it died each time."""
        exhausted = msgspec.json.decode(advisory.data, type=_Exhausted)
        message = await self._broker.link().stored(self._stream.name, exhausted.stream_seq)
        await self._bury(message, f"never acknowledged in {exhausted.deliveries} deliveries")

    async def _bury(self, message: Message, why: str) -> None:
        message_id = message.headers.get("Nats-Msg-Id", str(time.time_ns()))
        logger.error("message.dead", extra={"consumer": self._name, "message_id": message_id, "reason": why})
        await self._broker.publish_durable(
            self._stream.dead_subject(self._name),
            message.data,
            template=f"gaia.{{env}}.{self._stream.topic}{_DEAD}.{self._name}",
            message_id=message_id,
            stream=self._stream.dead_name,
        )
        # Counted once it is kept: until then it is not put aside.
        self._dead.inc()
