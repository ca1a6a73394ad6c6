"""The numbers of an HTTP probe, under blackbox_exporter's names."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from checks.catalog import MeasureInfo
from checks.finding import Measure
from checks.http.answer import Answer
from checks.wire.dial import TlsSeen

HTTP_MEASURES: Final = (
    MeasureInfo(name="probe_http_status_code", type="gauge", help="Status code of the last answer."),
    MeasureInfo(name="probe_http_version", type="gauge", help="HTTP version of the last answer."),
    MeasureInfo(name="probe_http_ssl", type="gauge", help="1 if the last answer came through TLS."),
    MeasureInfo(
        name="probe_http_redirects", type="gauge", help="Redirects met, one that is not followed included."
    ),
    MeasureInfo(
        name="probe_http_content_length", type="gauge", help="Content-Length of the last answer, if sent."
    ),
    MeasureInfo(
        name="probe_http_uncompressed_body_length", type="gauge", help="Bytes of the body after decoding."
    ),
    MeasureInfo(
        name="probe_http_last_modified_timestamp_seconds",
        type="gauge",
        help="Unix time of the Last-Modified header, if sent.",
    ),
)


def answer_measures(answer: Answer, *, tls: TlsSeen | None, redirects: int) -> tuple[Measure, ...]:
    """What a whole answer measures."""
    head = answer.head
    length = head.get("content-length")
    found = _answer_measures(head.status, head.version, length, len(answer.body), tls is not None, redirects)
    modified_s = _moment(head.get("last-modified"))
    if modified_s is None:
        return found
    return (*found, Measure(name="probe_http_last_modified_timestamp_seconds", value=modified_s))


@lru_cache(maxsize=256)
def _moment(text: str | None) -> float | None:
    """Unix time of an HTTP date (RFC 9110 section 5.6.7); None when it is none."""
    if text is None:
        return None
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None


@lru_cache(maxsize=1024)
def _answer_measures(
    status: int,
    version: str,
    length: str | None,
    body_bytes: int,
    tls: bool,  # noqa: FBT001 - part of the cache key
    redirects: int,
) -> tuple[Measure, ...]:
    found = [
        Measure(name="probe_http_status_code", value=float(status)),
        Measure(name="probe_http_version", value=float(version)),
        Measure(name="probe_http_ssl", value=float(tls)),
        Measure(name="probe_http_redirects", value=float(redirects)),
        Measure(name="probe_http_uncompressed_body_length", value=float(body_bytes)),
    ]
    if length is not None:
        found.append(Measure(name="probe_http_content_length", value=float(length.partition(",")[0])))
    return tuple(found)
