"""Sends finished spans over OTLP/HTTP with OpenTelemetry's SDK; the only file that imports it."""

from __future__ import annotations

import threading

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from services.instrumentation.context import TraceContext
from services.instrumentation.settings import Settings
from services.instrumentation.tracing import Span

# A 20 s outage of the collector at 200 spans/s loses 45 % with the SDK's own 2,048.
_QUEUE = 16_384
_SCOPE = InstrumentationScope("gaia.instrumentation", "0.1.0")
_KINDS = (SpanKind.INTERNAL, SpanKind.SERVER, SpanKind.CLIENT, SpanKind.PRODUCER, SpanKind.CONSUMER)


class OtlpExporter:
    """Queues spans and posts them in batches from the SDK's own thread."""

    def __init__(self, settings: Settings) -> None:
        attributes: dict[str, str] = {
            "service.name": settings.service,
            "service.namespace": "gaia",
            "service.version": settings.version,
            "service.instance.id": settings.instance_id,
            "deployment.environment.name": settings.environment.value,
        }
        if settings.region:
            attributes["cloud.region"] = settings.region
        self._resource = Resource.create(attributes)
        endpoint = f"{(settings.otlp_endpoint or '').rstrip('/')}/v1/traces"
        self._processor = BatchSpanProcessor(
            OTLPSpanExporter(endpoint=endpoint, timeout=30),
            max_queue_size=_QUEUE,
            schedule_delay_millis=1000,
        )

    def export(self, span: Span) -> None:
        self._processor.on_end(
            ReadableSpan(
                name=span.name,
                context=_context(span.context, is_remote=False),
                parent=None if span.parent is None else _context(span.parent, is_remote=True),
                resource=self._resource,
                attributes=span.attributes,
                events=[Event(name, attributes, at_ns) for name, at_ns, attributes in span.events],
                links=[Link(_context(link, is_remote=True)) for link in span.links],
                kind=_KINDS[span.kind],
                status=Status(StatusCode.ERROR) if span.error else Status(StatusCode.UNSET),
                start_time=span.start_ns,
                end_time=span.end_ns,
                instrumentation_scope=_SCOPE,
            )
        )

    def close(self, timeout_s: float) -> None:
        # The SDK's shutdown may retry a dead collector for 7 s; a service may not take that long to stop.
        thread = threading.Thread(target=self._processor.shutdown, name="otlp-shutdown", daemon=True)
        thread.start()
        thread.join(timeout_s)


def _context(context: TraceContext, *, is_remote: bool) -> SpanContext:
    return SpanContext(
        trace_id=int(context.trace_id, 16),
        span_id=int(context.span_id, 16),
        is_remote=is_remote,
        trace_flags=TraceFlags(context.flags),
        trace_state=TraceState.from_header([context.state]) if context.state else None,
    )
