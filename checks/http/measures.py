"""The numbers of an HTTP probe, under blackbox_exporter's names."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from checks.catalog import MeasureInfo
from checks.finding import Measure
from checks.http.exchange import Answer
from checks.wire.certificate import Certificate
from checks.wire.dial import TlsSeen
from checks.wire.expiry import earliest

HTTP_MEASURES: Final = (
    MeasureInfo(name="probe_http_status_code", type="gauge", help="Status code of the last answer."),
    MeasureInfo(name="probe_http_version", type="gauge", help="HTTP version of the last answer."),
    MeasureInfo(name="probe_http_ssl", type="gauge", help="1 if the last answer came through TLS."),
    MeasureInfo(name="probe_http_redirects", type="gauge", help="Redirects followed."),
    MeasureInfo(
        name="probe_http_content_length", type="gauge", help="Content-Length of the last answer, if sent."
    ),
    MeasureInfo(
        name="probe_http_uncompressed_body_length", type="gauge", help="Bytes of the body after decoding."
    ),
    MeasureInfo(name="probe_ip_protocol", type="gauge", help="4 or 6: the IP version that was used."),
)
TLS_MEASURES: Final = (
    MeasureInfo(
        name="probe_ssl_earliest_cert_expiry",
        type="gauge",
        help="Unix time at which the first certificate of the chain expires, also when it did not verify.",
    ),
    MeasureInfo(
        name="probe_tls_version_info",
        type="gauge",
        help="1; the TLS version is a label.",
        labels=("version",),
    ),
    MeasureInfo(
        name="probe_tls_cipher_info", type="gauge", help="1; the cipher suite is a label.", labels=("cipher",)
    ),
)


def answer_measures(answer: Answer, *, tls: TlsSeen | None, redirects: int) -> tuple[Measure, ...]:
    """What a whole answer measures."""
    head = answer.head
    length = head.get("content-length")
    return _answer_measures(head.status, head.version, length, len(answer.body), tls is not None, redirects)


@lru_cache(maxsize=1024)
def _answer_measures(
    status: int,
    version: str,
    length: str | None,
    body_bytes: int,
    tls: bool,
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


_PROTOCOL: Final = {
    4: (Measure(name="probe_ip_protocol", value=4.0),),
    6: (Measure(name="probe_ip_protocol", value=6.0),),
}


def way_measures(ip: str | None, tls: TlsSeen | None, chain: tuple[Certificate, ...]) -> tuple[Measure, ...]:
    """What the way there measures, also when there was no answer."""
    protocol = () if ip is None else _PROTOCOL[6 if ":" in ip else 4]
    if not chain and tls is None:
        return protocol
    found: list[Measure] = []
    first = earliest(chain)
    if first is not None:
        found.append(Measure(name="probe_ssl_earliest_cert_expiry", value=first.not_after_s))
    if tls is not None:
        found.append(Measure(name="probe_tls_version_info", value=1.0, labels=(("version", tls.version),)))
        found.append(Measure(name="probe_tls_cipher_info", value=1.0, labels=(("cipher", tls.cipher),)))
    return (*protocol, *found)
