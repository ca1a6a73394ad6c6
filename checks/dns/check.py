"""The DNS check: whether a name server gives the right answer to a question."""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from checks.catalog import ProbeKit
from checks.dns.exchange import ask
from checks.dns.packet import Message, Record, RecordType, encode_name
from checks.finding import Evidence, Finding, Measure, State
from checks.reason import Reason
from checks.target import Target
from checks.units import Duration
from checks.wire.dial import Family, resolve
from checks.wire.fault import Fault
from checks.wire.journey import Journey
from checks.wire.look import look, spell
from checks.wire.measures import way_measures

_SUCCEEDED: Final = "probe_dns_query_succeeded"


class Records(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Regular expressions over the records of one section, each written as in a zone file.

    `none`: no record may match one of them. `each`: every record matches all of them, and there is one.
    `all`: every record, if there is any, matches all of them. `some`: a record matches one of them.
    """

    none: tuple[str, ...] = ()
    each: tuple[str, ...] = ()
    all: tuple[str, ...] = ()
    some: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for pattern in (*self.none, *self.each, *self.all, *self.some):
            check_pattern(pattern)

    def mismatch(self, records: tuple[Record, ...]) -> str | None:
        """Why `records` are not as they should be, as the end of a sentence; None when they are."""
        for record in records:
            said = " ".join(str(record).split())[:150]
            for pattern in self.none:
                if re.search(pattern, str(record)):
                    return f"{said}, like {pattern}"
            for pattern in (*self.each, *self.all):
                if not re.search(pattern, str(record)):
                    return f"{said}, not like {pattern}"
        if not records and self.each:
            return f"no record at all, expected one like {self.each[0]}"
        if self.some and not any(re.search(one, str(record)) for one in self.some for record in records):
            return f"no record like {' or '.join(self.some)[:150]}"
        return None


class DnsOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One question to `server`.

    `rcode` lists accepted response codes; `answers` are regular expressions, each to be found in the data of
    some answer; `only` demands that every answer matches one of them; `min_ttl` is the shortest accepted TTL.
    `answer_records`, `authority_records` and `additional_records` judge whole sections.
    """

    server: str
    name: str
    type: RecordType = "A"
    port: int = 53
    transport: Literal["udp", "tcp"] = "udp"
    recursion: bool = True
    rcode: tuple[str, ...] = ("NOERROR",)
    answers: tuple[str, ...] = ()
    only: bool = False
    min_answers: int = 1
    min_ttl: Duration = Duration(0)
    answer_records: Records = Records()
    authority_records: Records = Records()
    additional_records: Records = Records()
    slower_than: Duration = Duration(2)
    timeout: Duration = Duration(5)
    ip: Family = "any"

    def __post_init__(self) -> None:
        encode_name(self.name)
        if not 0 < self.port < 65536:
            raise ValueError("port is a number from 1 to 65535")
        for pattern in self.answers:
            check_pattern(pattern)


def check_pattern(pattern: str) -> None:
    """Raises ValueError when `pattern` is no regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f'"{pattern}" is no regular expression: {error}') from error


class DnsCheck:
    """Asks `options.server` for `options.name`."""

    def __init__(self, target: Target, options: DnsOptions, kit: ProbeKit) -> None:
        self._target = target
        self._options = options
        self._kit = kit

    async def probe(self) -> Finding:
        finding = await look(self._target, self._options.timeout, self._ask)
        if any(measure.name == _SUCCEEDED for measure in finding.measures):
            return finding
        return replace(finding, measures=(*finding.measures, Measure(name=_SUCCEEDED, value=0.0)))

    async def _ask(self, journey: Journey) -> Finding:
        options = self._options
        servers = await resolve(options.server, options.ip, self._kit.resolver, journey)
        message = await ask(
            servers[0],
            options.port,
            name=options.name,
            record_type=options.type,
            transport=options.transport,
            recursion=options.recursion,
            journey=journey,
        )
        state, reason, words = State.UP, Reason.OK, ""
        latency_s = journey.latency_s or 0.0
        fault = mismatch(message, options)
        if fault is not None:
            state, reason, words = State.DOWN, fault.reason, fault.message
        else:
            found = len(relevant(message, options.type))
            words = f"answers {options.type} of {options.name} with {found} records in {spell(latency_s)}"
            if latency_s > options.slower_than:
                state, reason, words = (
                    State.DEGRADED,
                    Reason.SLOW,
                    f"{words}, slower than {options.slower_than}",
                )
        return Finding(
            state=state,
            reason=reason,
            message=f"{self._target.address} {words}",
            latency_s=latency_s,
            phases=journey.phases(),
            measures=(*way_measures(journey.ip, None, ()), *_measures(message)),
            evidence=(*_evidence(message), *journey.facts()),
        )

    async def close(self) -> None:
        """Nothing is held between looks."""


def relevant(message: Message, record_type: str) -> tuple[Record, ...]:
    """The answers of the type that was asked for."""
    return tuple(record for record in message.answers if record_type in (record.type, "ANY"))


def mismatch(message: Message, options: DnsOptions) -> Fault | None:
    """Why `message` is no right answer; None when it is."""
    asked = f"{options.type} of {options.name}"
    if message.rcode not in options.rcode:
        return Fault(Reason.DNS, f"answers {asked} with {message.rcode}, expected {', '.join(options.rcode)}")
    found = relevant(message, options.type)
    if message.rcode == "NOERROR" and len(found) < options.min_answers:
        return Fault(Reason.DNS, f"answers {asked} with {len(found)} records, expected {options.min_answers}")
    for pattern in options.answers:
        if not any(_like(pattern, record) for record in found):
            said = ", ".join(record.data for record in found)[:150]
            return Fault(Reason.BODY_MATCH, f"answers {asked} with {said}, nothing like {pattern}")
    for record in found:
        if options.only and not any(_like(pattern, record) for pattern in options.answers):
            return Fault(
                Reason.BODY_MATCH, f"answers {asked} with {record.data[:150]}, which is not expected"
            )
        if record.ttl_s < options.min_ttl:
            least = options.min_ttl
            return Fault(Reason.BODY_MATCH, f"answers {asked} with a TTL of {record.ttl_s}s, below {least}")
    for section, rules, records in (
        ("answer", options.answer_records, message.answers),
        ("authority", options.authority_records, message.authority),
        ("additional", options.additional_records, message.additional),
    ):
        words = rules.mismatch(records)
        if words is not None:
            return Fault(Reason.BODY_MATCH, f"answers {asked}; its {section} section has {words}")
    return None


def _like(pattern: str, record: Record) -> bool:
    return re.search(pattern, record.data) is not None or re.search(pattern, str(record)) is not None


def _measures(message: Message) -> tuple[Measure, ...]:
    found = [
        Measure(name="probe_dns_answer_rrs", value=float(len(message.answers))),
        Measure(name="probe_dns_authority_rrs", value=float(len(message.authority))),
        Measure(name="probe_dns_additional_rrs", value=float(len(message.additional))),
        Measure(name=_SUCCEEDED, value=1.0),
    ]
    for record in message.answers:
        if record.type == "SOA":
            found.append(Measure(name="probe_dns_serial", value=float(record.data.split()[2])))
            break
    return tuple(found)


def _evidence(message: Message) -> list[Evidence]:
    return [Evidence(name="rcode", value=message.rcode)] + [
        Evidence(name=f"answer {place}", value=str(record)[:300])
        for place, record in enumerate(message.answers[:10])
    ]
