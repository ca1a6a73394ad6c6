"""NATS for a service: starts without it, reconnects for ever, refuses rather than buffers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from services.instrumentation.context import parse_traceparent
from services.instrumentation.health import Criticality, Dependency, Reading, Status
from services.instrumentation.kit import Instrumentation
from services.instrumentation.message import LinkError, Message, Subscriber
from services.instrumentation.problem import UnavailableError
from services.instrumentation.tracing import Kind, headers_of

if TYPE_CHECKING:
    from services.instrumentation.nats_link import Link

logger = logging.getLogger(__name__)

HEALTH: Final = "nats:responseTime"
_RETRY_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
_PUBLISH_S: Final = 2.0


class Broker:
    """The connection to NATS. Subscriptions are declared once and survive every reconnect."""

    def __init__(self, kit: Instrumentation, *, criticality: Criticality, own: bool = False) -> None:
        self._kit = kit
        self._url = kit.settings.nats_url
        self._link: Link | None = None
        self._subscribers: list[tuple[str, str, str, Subscriber]] = []
        self._on_connect: list[Callable[[Link], Awaitable[None]]] = []
        metrics = kit.metrics
        self._sent = metrics.histogram(
            "messaging_client_operation_duration_seconds",
            "Duration of messaging operations.",
            ("messaging_system", "messaging_operation_name", "messaging_destination_name", "error_type"),
        )
        self.processed = metrics.histogram(
            "messaging_process_duration_seconds",
            "Duration of processing a message.",
            ("messaging_system", "messaging_destination_name", "error_type"),
        )
        self.consumed = metrics.counter(
            "messaging_client_consumed_messages_total",
            "Messages received.",
            ("messaging_system", "messaging_destination_name"),
        )
        metrics.gauge("nats_client_pending_bytes", "Bytes not yet written to the server.").set_function(
            lambda: self._link.pending_bytes if self._link else 0
        )
        self._reconnects = metrics.counter("nats_client_reconnects_total", "Reconnections to the server.")
        kit.depends_on(
            Dependency(
                name=HEALTH, component_type="messaging", criticality=criticality, probe=self._probe, own=own
            )
        )
        kit.in_background("broker", self._connect)
        kit.on_drain(self._drain)
        kit.on_close(self._close)

    @property
    def connected(self) -> bool:
        return self._link is not None and self._link.connected

    def link(self) -> Link:
        """The link, connected now. Raises UnavailableError while there is none."""
        if self._link is None or not self._link.connected:
            self._kit.health.suspect(HEALTH)
            raise UnavailableError("the message broker cannot be used now", reason="broker_unavailable")
        return self._link

    def subscribe(self, subject: str, handler: Subscriber, *, template: str, queue: str = "") -> None:
        """Call `handler` for each message on `subject`, now or as soon as there is a connection.

        `template` is the subject as a label: bounded, with names in place of values.
        """
        self._subscribers.append((subject, queue, template, handler))

    def on_connect(self, callback: Callable[[Link], Awaitable[None]]) -> None:
        """Called after the first connection and every reconnection; an exception is logged."""
        self._on_connect.append(callback)

    async def publish(self, subject: str, data: bytes, *, template: str) -> None:
        """Send without acknowledgement. Raises UnavailableError instead of buffering."""
        link = self.link()
        start_s = time.monotonic()
        error_type = ""
        with self._kit.tracer.span(f"send {template}", Kind.PRODUCER) as span:
            span.set("messaging.system", "nats")
            span.set("messaging.operation.name", "send")
            span.set("messaging.destination.name", template)
            try:
                await link.publish(subject, data, headers_of(span.context))
            except LinkError as error:
                error_type = error.kind
                span.fail(error_type)
                raise UnavailableError("the message broker refused", reason="broker_unavailable") from error
            finally:
                self._observe_send("publish", template, error_type, start_s)

    def _observe_send(self, operation: str, template: str, error_type: str, start_s: float) -> None:
        self._sent.observe(("nats", operation, template, error_type), time.monotonic() - start_s)

    async def publish_durable(
        self, subject: str, data: bytes, *, template: str, message_id: str, stream: str
    ) -> int:
        """Send to JetStream and wait until it is stored; returns its sequence. Raises UnavailableError.

        The server drops a second message with the same id, so a caller may safely repeat after an error.
        """
        link = self.link()
        start_s = time.monotonic()
        error_type = ""
        with self._kit.tracer.span(f"send {template}", Kind.PRODUCER) as span:
            span.set("messaging.system", "nats")
            span.set("messaging.operation.name", "send")
            span.set("messaging.destination.name", template)
            span.set("messaging.message.id", message_id)
            headers = {**headers_of(span.context), "Nats-Msg-Id": message_id}
            try:
                return await link.store(subject, data, headers, stream=stream, timeout_s=_PUBLISH_S)
            except LinkError as error:
                error_type = error.kind
                span.fail(error_type)
                self._kit.health.suspect(HEALTH)
                raise UnavailableError(
                    "the message could not be stored; it was not accepted", reason="broker_unavailable"
                ) from error
            finally:
                self._observe_send("publish_durable", template, error_type, start_s)

    async def _connect(self) -> None:
        if self._url is None:
            logger.error("broker.not_configured")
            await asyncio.Event().wait()
            return
        attempt = 0
        while self._link is None:
            try:
                self._link = await self._open(self._url.reveal().split(","))
            except LinkError as error:
                if attempt in {0, 10} or attempt % 60 == 0:
                    logger.warning("broker.unreachable", extra={"error": error.kind, "attempt": attempt})
                await asyncio.sleep(_RETRY_S[min(attempt, len(_RETRY_S) - 1)])
                attempt += 1
        for subject, queue, template, handler in self._subscribers:
            await self._link.subscribe(subject, self._receiver(template, handler), queue=queue)
        await self._connected()
        await asyncio.Event().wait()

    async def _open(self, servers: list[str]) -> Link:
        # Imported here: a service listens before it has loaded what it needs to speak.
        from services.instrumentation.nats_link import connect

        def disconnected() -> None:
            logger.warning("broker.disconnected")
            self._kit.health.suspect(HEALTH)

        async def reconnected() -> None:
            logger.info("broker.reconnected")
            self._reconnects.inc()
            await self._connected()

        settings = self._kit.settings
        return await connect(
            servers,
            name=f"gaia-{settings.service}-{settings.instance_id}",
            on_disconnect=disconnected,
            on_reconnect=reconnected,
        )

    async def _connected(self) -> None:
        self._kit.health.suspect(HEALTH)
        if self._link is None:
            return
        for callback in self._on_connect:
            try:
                await callback(self._link)
            except Exception:
                logger.exception("broker.setup_failed")

    def _receiver(self, template: str, handler: Subscriber) -> Subscriber:
        async def receive(message: Message) -> None:
            self.consumed.labels("nats", template).inc()
            await self.process(message, template, handler)

        return receive

    async def process(self, message: Message, template: str, handler: Subscriber) -> bool:
        """Run `handler` inside a consumer span of the sender's trace; whether it succeeded.

        A redelivered message starts its own trace, linked to the sender's.
        """
        sender = parse_traceparent(message.headers.get("traceparent"), message.headers.get("tracestate", ""))
        again = message.delivered > 1
        start_s = time.monotonic()
        error_type = ""
        with self._kit.tracer.span(
            f"process {template}",
            Kind.CONSUMER,
            parent=None if again else sender,
            links=(sender,) if again and sender else (),
            root=again or sender is None,
        ) as span:
            span.set("messaging.system", "nats")
            span.set("messaging.operation.name", "process")
            span.set("messaging.destination.name", template)
            span.set("messaging.nats.delivered", message.delivered)
            try:
                await handler(message)
            except Exception as error:
                error_type = type(error).__name__
                span.fail(error_type)
                logger.exception(
                    "message.failed", extra={"destination": template, "attempt": message.delivered}
                )
            finally:
                self.processed.observe(("nats", template, error_type), time.monotonic() - start_s)
        return not error_type

    async def _probe(self) -> Reading:
        if self._url is None:
            return Reading(status=Status.FAIL, output="NATS_URL is not set")
        if self._link is None or not self._link.connected:
            return Reading(status=Status.FAIL, output="not connected")
        start_s = time.monotonic()
        # A link to a server that hangs stays "connected": ask for an answer.
        await self._link.flush(timeout_s=1)
        return Reading(status=Status.PASS, value=round((time.monotonic() - start_s) * 1000, 3))

    async def _drain(self) -> None:
        if self._link is not None:
            await self._link.drain()

    async def _close(self) -> None:
        if self._link is not None:
            await self._link.close()
