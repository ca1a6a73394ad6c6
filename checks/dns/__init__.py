"""The `dns` check."""

from __future__ import annotations

from checks.catalog import CheckKind, MeasureInfo, ProbeKit
from checks.dns.check import DnsCheck, DnsOptions
from checks.target import Target
from checks.wire.measures import IP_MEASURES


def _build(target: Target, options: DnsOptions, kit: ProbeKit) -> DnsCheck:
    return DnsCheck(target, options, kit)


KIND = CheckKind(
    name="dns",
    options=DnsOptions,
    build=_build,
    measures=(
        *IP_MEASURES,
        MeasureInfo(name="probe_dns_answer_rrs", type="gauge", help="Records in the answer section."),
        MeasureInfo(name="probe_dns_authority_rrs", type="gauge", help="Records in the authority section."),
        MeasureInfo(name="probe_dns_additional_rrs", type="gauge", help="Records in the additional section."),
        MeasureInfo(
            name="probe_dns_query_succeeded", type="gauge", help="1 if the server answered, right or wrong."
        ),
        MeasureInfo(name="probe_dns_serial", type="gauge", help="Serial number of the zone, from its SOA."),
    ),
)
