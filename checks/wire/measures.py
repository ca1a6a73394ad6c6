"""The numbers of the way to a target, under blackbox_exporter's names, shared by the checks."""

from __future__ import annotations

from typing import Final

from checks.catalog import MeasureInfo
from checks.finding import Measure
from checks.wire.certificate import Certificate
from checks.wire.dial import TlsSeen
from checks.wire.expiry import earliest

IP_MEASURES: Final = (
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
