"""The service's Prometheus registry: RED in semantic-convention names, as text or OpenMetrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from services.instrumentation.histogram import Histogram
from services.instrumentation.settings import Settings

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
UNMATCHED: Final = "__unmatched__"
_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"))


# prometheus_client leaves this one function untyped.
openmetrics_text: Final[Callable[[CollectorRegistry], bytes]] = openmetrics.generate_latest


def known_method(method: str) -> str:
    """The method as a label: unknown ones share `_OTHER`, so that no client can add series."""
    return method if method in _METHODS else "_OTHER"


class Metrics:
    """All series of one service."""

    def __init__(self, settings: Settings) -> None:
        self.registry = CollectorRegistry()
        self._buckets = settings.buckets_s
        self.server = self.histogram(
            "http_server_request_duration_seconds",
            "Duration of HTTP server requests.",
            ("http_request_method", "http_route", "http_response_status_code", "error_type"),
        )
        self.active = self.gauge(
            "http_server_active_requests", "Requests being answered now.", ("http_request_method",)
        )
        self.client = self.histogram(
            "http_client_request_duration_seconds",
            "Duration of HTTP client requests until the response's headers.",
            ("http_request_method", "server_address", "http_response_status_code", "error_type"),
        )
        self.refused = self.counter(
            "http_server_refused_requests_total", "Requests refused by policy, by reason.", ("reason",)
        )
        self.loop_lag = self.gauge(
            "event_loop_lag_seconds", "How late the event loop last ran its heartbeat."
        )
        self.health = self.gauge(
            "service_dependency_health", "1 pass, 0.5 warn, 0 fail; absent while unknown.", ("dependency",)
        )
        info = self.gauge(
            "service_info",
            "What runs here.",
            ("service_name", "service_version", "deployment_environment_name", "service_instance_id"),
        )
        info.labels(settings.service, settings.version, settings.environment.value, settings.instance_id).set(
            1
        )
        self.answering: dict[str, int] = {}
        """Requests being answered by method: plain numbers, which `active` shows."""

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(name.removesuffix("_total"), text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def histogram(self, name: str, text: str, labels: Sequence[str] = ()) -> Histogram:
        """A histogram in seconds whose edges include every configured threshold."""
        return Histogram(name, text, labels, edges_s=self._buckets, registry=self.registry)

    def count_active(self, method: str) -> None:
        """From now on `answering[method]` is a series, read when it is scraped."""
        counts = self.answering
        counts[method] = 0
        self.active.labels(method).set_function(lambda: counts[method])

    def render(self, accept: str) -> tuple[bytes, str]:
        """The exposition and its Content-Type for a client's `Accept` header."""
        if prefers_openmetrics(accept):
            return openmetrics_text(self.registry), OPENMETRICS
        return generate_latest(self.registry), TEXT


def prefers_openmetrics(accept: str) -> bool:
    """Whether `Accept` ranks OpenMetrics above plain text; equal ranks and wildcards give plain text."""
    openmetrics = text = 0.0
    for part in accept.split(","):
        kind, _, parameters = part.strip().partition(";")
        quality = 1.0
        for parameter in parameters.split(";"):
            name, _, value = parameter.strip().partition("=")
            if name == "q":
                try:
                    quality = float(value)
                except ValueError:
                    quality = 0.0
        if kind == "application/openmetrics-text":
            openmetrics = max(openmetrics, quality)
        elif kind in {"text/plain", "text/*", "*/*"}:
            text = max(text, quality)
    return openmetrics > text or (
        openmetrics == text > 0 and "openmetrics" in accept.split(",", maxsplit=1)[0]
    )
