"""Requests counted from SERVER and CONSUMER spans, old and new semantic conventions, sampling undone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import compress
from operator import attrgetter, itemgetter
from typing import Final

from msgspec import Struct

from agent.telemetry.red import EXCLUDED_ROUTES
from agent.telemetry.schema import Scalar, SlimResourceSpans, SlimSpan, SlimTraces, is_span_id, key_value
from agent.telemetry.series import RequestSeries, SeriesKey, SeriesTable
from agent.telemetry.trails import Trails

UNMATCHED_ROUTE: Final = "__unmatched__"
UNKNOWN_SERVICE: Final = "unknown_service"
_SERVER: Final = 2
_CONSUMER: Final = 5
_COUNTED: Final = frozenset({_SERVER, _CONSUMER})
# A Status on the wire ends with its code, field 3: ERROR is 2.
_STATUS_ERROR: Final = b"\x18\x02"
_MAX_DURATION_S: Final = 86_400.0
_MAX_KNOWN: Final = 20_000
_NO_TRACE: Final = bytes(16)
_NO_SPAN: Final = bytes(8)
_METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"}
)
_WANTED: Final = (
    "http.route", "http.request.method", "http.method", "http.response.status_code", "http.status_code",
    "error.type", "messaging.destination.template", "messaging.destination.name",
    "messaging.destination", "rpc.service", "rpc.method", "rpc.grpc.status_code",
)  # fmt: skip
# A KeyValue on the wire begins with tag 0x0a, its key's length, the key: these three bytes tell nearly every
# unwanted attribute from a wanted one, at a fifth of the cost of comparing prefixes.
_STARTS: Final = frozenset(b"\x0a" + bytes([len(key)]) + key[:1].encode() for key in _WANTED)
# Raw paths differ per request: looked at only where there is no route, to know probes and scrapes.
_PATHS: Final = (b"\x0a\x08url.path\x12", b"\x0a\x0bhttp.target\x12")
_start: Final = itemgetter(slice(3))
_is_counted: Final = _COUNTED.__contains__
_trace_id: Final = attrgetter("trace_id")
_span_id: Final = attrgetter("span_id")
_kind: Final = attrgetter("kind")


class Owner(Struct, frozen=True):
    """Whose spans these are."""

    service: str
    env: str


class _Kind(Struct, frozen=True):
    """What a set of raw attributes means: its row, None where the request does not count.

    `unrouted` says that no route was given and the path decides whether it was a probe.
    """

    row: RequestSeries | None
    unrouted: bool


class SpanTally:
    """What one request body adds to the table, held back until the body is safe on disk."""

    __slots__ = ("_table", "_trails", "counts", "identity", "invalid", "services", "spans")

    def __init__(self, table: SeriesTable, trails: Trails) -> None:
        self._table = table
        self._trails = trails
        self.counts: list[tuple[RequestSeries, float, float, bytes]] = []
        self.services: set[str] = set()
        # Ids of first and last spans: random, so that no two batches share them but by a retry.
        self.identity = b""
        self.spans = 0
        self.invalid = 0

    def apply(self, at_s: float) -> None:
        """Count it, now that it is kept."""
        add, slow_s = self._table.add, self._trails.slow_s
        for row, duration_s, weight, trace_id in self.counts:
            row.exemplars[add(row, duration_s, weight)] = (duration_s, trace_id, at_s)
            if row.failed or duration_s >= slow_s:
                self._trails.request(
                    row.key, trace_id=trace_id, duration_s=duration_s, at_s=at_s, failed=row.failed
                )


class SpanCounter:
    """Finds each span's row; attribute bytes met before are not decoded again."""

    def __init__(self, table: SeriesTable, trails: Trails, *, names: dict[str, str] | None = None) -> None:
        self._table = table
        self._trails = trails
        self._names = names or {}
        self._known: dict[Owner, dict[tuple[object, ...], _Kind]] = {}
        self._size = 0
        self._owners: dict[tuple[bytes, ...], Owner] = {}
        self._choosers: dict[tuple[bytes, ...], Callable[[Sequence[bytes]], object]] = {}
        self.clamped = 0

    def tally(self, traces: SlimTraces) -> SpanTally:
        """What `traces` would add. Spans without a valid trace and span id are invalid and add nothing."""
        tally = SpanTally(self._table, self._trails)
        for resource_spans in traces.resource_spans:
            owner = self._owner(resource_spans)
            before = len(tally.counts)
            for scope_spans in resource_spans.scope_spans:
                self._tally(tally, owner, list(scope_spans.spans))
            if len(tally.counts) > before:
                tally.services.add(owner.service)
        return tally

    def _tally(self, tally: SpanTally, owner: Owner, spans: list[SlimSpan]) -> None:
        # Whole columns in C: one look per span in Python would cost more than all the rest.
        tally.spans += len(spans)
        trace_ids, span_ids = list(map(_trace_id, spans)), list(map(_span_id, spans))
        if not _all_valid(trace_ids, span_ids):
            spans = [span for span in spans if is_span_id(span.trace_id, span.span_id)]
            tally.invalid += len(trace_ids) - len(spans)
            trace_ids, span_ids = list(map(_trace_id, spans)), list(map(_span_id, spans))
        if not spans:
            return
        tally.identity += trace_ids[0] + span_ids[0] + span_ids[-1]
        counted = map(_is_counted, map(_kind, spans))
        pairs = compress(zip(spans, trace_ids, strict=True), counted)
        self._count(tally, owner, pairs)

    def _count(self, tally: SpanTally, owner: Owner, pairs: Iterable[tuple[SlimSpan, bytes]]) -> None:
        # One loop and no call inside it but for what was never met: this is where the intake spends its time.
        known, choosers = self._known.setdefault(owner, {}), self._choosers
        add = tally.counts.append
        for span, trace_id in pairs:
            kind, failed = span.kind, span.status.endswith(_STATUS_ERROR)
            attributes = span.attributes[:]
            starts = tuple(map(_start, attributes))
            found = (choosers.get(starts) or self._chooser(starts))(attributes)
            raw = (kind, failed, "" if found and kind == _SERVER else span.name, found)
            meaning = known.get(raw) or self._meaning(owner, raw, span)
            row = meaning.row
            if row is None or (meaning.unrouted and _is_probe(span)):
                continue
            duration_s = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
            if not 0 <= duration_s <= _MAX_DURATION_S:
                duration_s = min(max(duration_s, 0.0), _MAX_DURATION_S)
                self.clamped += 1
            state = span.trace_state
            add((row, duration_s, adjusted_count(state) if state else 1.0, trace_id))

    def _chooser(self, starts: tuple[bytes, ...]) -> Callable[[Sequence[bytes]], object]:
        """What picks the wanted ones out of attributes that begin like these."""
        if len(self._choosers) >= _MAX_KNOWN:
            self._choosers.clear()
        places = [place for place, start in enumerate(starts) if start in _STARTS]
        made: Callable[[Sequence[bytes]], object] = itemgetter(*places) if places else _nothing
        self._choosers[starts] = made
        return made

    def _meaning(self, owner: Owner, raw: tuple[object, ...], span: SlimSpan) -> _Kind:
        self._size += 1
        if self._size > _MAX_KNOWN:
            self._size = 0
            self._known.clear()
        failed = span.status.endswith(_STATUS_ERROR)
        meaning = self._read(owner, span.kind, failed=failed, span=span)
        # Looked up anew: clearing took the owner's table away.
        self._known.setdefault(owner, {})[raw] = meaning
        return meaning

    def _read(self, owner: Owner, kind: int, *, failed: bool, span: SlimSpan) -> _Kind:
        pairs = (key_value(content) for content in span.attributes if _start(content) in _STARTS)
        said = {key: str(value) for key, value in pairs if key in _WANTED and value is not None}
        route = _route(kind, said, span.name)
        if route in EXCLUDED_ROUTES:
            return _Kind(None, unrouted=False)
        method = said.get("http.request.method") or said.get("http.method") or ""
        status = said.get("http.response.status_code") or said.get("http.status_code") or ""
        error = said.get("error.type", "")
        failed = _failed(status, error, failed=failed)
        key = SeriesKey(
            service=owner.service,
            env=owner.env,
            kind="server" if kind == _SERVER else "consumer",
            method=method if not method or method in _METHODS else "_OTHER",
            route=route[:200],
            status=status[:3],
            error=(error or "error")[:100] if failed and not status else "",
        )
        return _Kind(self._table.row(key, failed=failed), unrouted=route == UNMATCHED_ROUTE)

    def _owner(self, resource_spans: SlimResourceSpans) -> Owner:
        raw = tuple(resource_spans.resource.attributes)
        owner = self._owners.get(raw)
        if owner is None:
            if len(self._owners) >= _MAX_KNOWN:
                self._owners.clear()
                self._known.clear()
            owner = self._owners[raw] = owner_of(dict(key_value(content) for content in raw), self._names)
        return owner


def owner_of(resource: dict[str, Scalar], names: dict[str, str]) -> Owner:
    """Service and environment of a resource; `names` maps a service.name to the name in gaia.yaml."""
    said = str(resource.get("service.name") or UNKNOWN_SERVICE)
    env = resource.get("deployment.environment.name") or resource.get("deployment.environment") or ""
    return Owner(names.get(said, said)[:100], str(env)[:50])


def adjusted_count(trace_state: str) -> float:
    """How many requests a sampled span stands for, by its `ot=th:…`; 1 where there is none or it is wrong.

    The threshold is up to 14 hex digits of 2^56, trailing zeros left out (OpenTelemetry specification,
    TraceState: Probability Sampling).
    """
    for member in trace_state.split(","):
        vendor, _, value = member.strip().partition("=")
        if vendor != "ot":
            continue
        for part in value.split(";"):
            name, _, digits = part.partition(":")
            if name == "th" and 1 <= len(digits) <= 14:
                try:
                    threshold = int(digits.ljust(14, "0"), 16)
                except ValueError:
                    return 1.0
                return 2.0**56 / (2**56 - threshold)
    return 1.0


def _nothing(_: Sequence[bytes]) -> tuple[()]:
    return ()


def _all_valid(trace_ids: list[bytes], span_ids: list[bytes]) -> bool:
    return (
        set(map(len, trace_ids)) == {16}
        and set(map(len, span_ids)) == {8}
        and _NO_TRACE not in trace_ids
        and _NO_SPAN not in span_ids
    )


def _is_probe(span: SlimSpan) -> bool:
    for content in span.attributes:
        if content.startswith(_PATHS):
            path = str(key_value(content)[1])
            return path.partition("?")[0] in EXCLUDED_ROUTES
    return False


def _route(kind: int, said: dict[str, str], name: str) -> str:
    """The route a span counts under. A raw path is never one."""
    if kind == _CONSUMER:
        place = said.get("messaging.destination.template") or said.get("messaging.destination.name")
        return f"consume {place or said.get('messaging.destination') or name}"
    route = said.get("http.route")
    if route:
        return route
    if "rpc.method" in said:
        return f"{said.get('rpc.service', '')}/{said['rpc.method']}"
    http = any(key.startswith("http.") for key in said)
    return UNMATCHED_ROUTE if http else name or UNMATCHED_ROUTE


def _failed(status: str, error: str, *, failed: bool) -> bool:
    """An answer of 5xx; without a status, a span that says it failed."""
    if status:
        return status.startswith("5") and len(status) == 3
    return failed or bool(error)
