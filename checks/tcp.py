"""The TCP check: connect, and hold the dialogue that is asked for, plain or through TLS."""

from __future__ import annotations

import re
import time
from typing import Final

import msgspec

from checks.catalog import CheckKind, ProbeKit
from checks.finding import Finding, Phase, State
from checks.reason import Reason
from checks.secret import Secret
from checks.target import Target
from checks.units import Duration
from checks.wire.address import split_address
from checks.wire.certificate import Certificate
from checks.wire.dial import CertificateFault, Family, TlsSeen, connect, resolve, secure
from checks.wire.expiry import chain_evidence, expiring
from checks.wire.fault import DeadlinePassed, Fault
from checks.wire.journey import Journey
from checks.wire.lines import LineReader
from checks.wire.look import broken, look, spell
from checks.wire.measures import IP_MEASURES, TLS_MEASURES, way_measures
from checks.wire.redaction import Redactor, redacted
from checks.wire.starttls import StartTls, start_tls
from checks.wire.stream import Stream, Wire
from checks.wire.tls_options import TlsOptions

_GROUP: Final = re.compile(r"\$\{(\d+)\}")


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One step of a dialogue: wait for a line that matches `expect`, then `send` a line, then maybe TLS.

    `${1}` in `send` is the first group of `expect`. `raw` sends without a line end.
    """

    expect: str | None = None
    send: Secret | None = None
    raw: bool = False
    starttls: bool = False

    def __post_init__(self) -> None:
        if self.expect is not None:
            try:
                re.compile(self.expect)
            except re.error as error:
                raise ValueError(f'"{self.expect}" is no regular expression: {error}') from error


class TcpOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One TCP check of `address` (host:port).

    `tls` says how TLS is spoken: from the start, after `starttls`, or, with `tls_first: false`, only when a
    step of the dialogue asks for it.
    """

    address: str
    dialogue: tuple[Step, ...] = ()
    starttls: StartTls | None = None
    tls: TlsOptions | None = None
    tls_first: bool = True
    slower_than: Duration = Duration(2)
    timeout: Duration = Duration(5)
    ip: Family = "any"

    def __post_init__(self) -> None:
        split_address(self.address)


class TcpCheck:
    """Connects to `options.address`. A frozen server still accepts: only a dialogue shows it alive."""

    def __init__(self, target: Target, options: TcpOptions, kit: ProbeKit) -> None:
        self._target = target
        self._options = options
        self._kit = kit
        self._host, self._port = split_address(options.address)
        self._redactor = Redactor(
            line.strip()
            for step in options.dialogue
            if step.send is not None
            for line in step.send.reveal().splitlines()
        )
        # What the last look was shown, and the way by which it was trusted.
        self.chain: tuple[Certificate, ...] = ()
        self.trusted: tuple[Certificate, ...] = ()

    async def probe(self) -> Finding:
        self.chain = self.trusted = ()
        finding = await look(self._target, self._options.timeout, self._connect)
        return self._redactor.finding(finding, self._target.address)

    async def _connect(self, journey: Journey) -> Finding:
        options = self._options
        addresses = await resolve(self._host, options.ip, self._kit.resolver, journey)
        wire = await connect(addresses, self._port, journey)
        try:
            talk = _Talk(wire, self._host, options.tls or TlsOptions(), journey)
            if options.starttls is not None:
                await start_tls(wire, options.starttls)
            if (options.tls is not None and options.tls_first) or options.starttls is not None:
                await talk.secure()
            for step in options.dialogue:
                await talk.take(step)
        except CertificateFault as fault:
            self.chain = fault.chain
            for fact in chain_evidence(fault.chain):
                journey.note(fact.name, fact.value)
            return broken(self._target, journey, fault, way_measures(journey.ip, None, fault.chain))
        finally:
            wire.close()
        if options.dialogue:
            journey.begin(Phase.PROCESSING)
            journey.end(talk.waited_s)
        return self._judged(journey, talk.seen)

    def _judged(self, journey: Journey, seen: TlsSeen | None) -> Finding:
        options = self._options
        latency_s = journey.latency_s or 0.0
        chain: tuple[Certificate, ...] = seen.chain if seen is not None else ()
        self.chain, self.trusted = chain, seen.trusted if seen is not None else ()
        expiry = expiring(
            seen.needed if seen is not None else (),
            options.tls or TlsOptions(),
            now_s=self._kit.clock.wall_s(),
        )
        deed = "holds the dialogue" if options.dialogue else "accepts connections"
        state, reason, words = State.UP, Reason.OK, f"{deed} in {spell(latency_s)}"
        if expiry is not None:
            state, reason, words = expiry.state, expiry.reason, expiry.words
        elif latency_s > options.slower_than:
            state, reason, words = State.DEGRADED, Reason.SLOW, f"{words}, slower than {options.slower_than}"
        return Finding(
            state=state,
            reason=reason,
            message=f"{self._target.address} {words}",
            latency_s=latency_s,
            phases=journey.phases(),
            measures=way_measures(journey.ip, seen, chain),
            evidence=journey.facts(),
        )

    async def close(self) -> None:
        """Nothing is held between looks."""


class _Talk:
    """A dialogue in progress."""

    def __init__(self, wire: Wire, host: str, tls: TlsOptions, journey: Journey) -> None:
        self._wire = wire
        self._host = host
        self._tls = tls
        self._journey = journey
        self._stream: Stream = wire
        self._reader = LineReader(wire)
        self._groups: tuple[str | None, ...] = ()
        self.seen: TlsSeen | None = None
        self.waited_s = 0.0

    async def secure(self) -> None:
        stream, self.seen = await secure(self._wire, self._host, self._tls, self._journey)
        self._stream = stream
        self._reader = LineReader(stream)

    async def take(self, step: Step) -> None:
        """One step. Raises Fault when the expected line does not come."""
        if step.expect is not None:
            await self._expect(step.expect)
        if step.send is not None:
            text = _GROUP.sub(self._group, step.send.reveal())
            await self._stream.send(text.encode() + (b"" if step.raw else b"\n"))
        if step.starttls:
            await self.secure()

    def _group(self, match: re.Match[str]) -> str:
        place = int(match[1])
        return self._groups[place] or "" if place < len(self._groups) else ""

    async def _expect(self, pattern: str) -> None:
        self._journey.begin(Phase.PROCESSING)
        asked_s = time.monotonic()
        last = ""
        while True:
            try:
                line = await self._reader.line()
            except DeadlinePassed:
                waited = f"within {spell(time.monotonic() - asked_s)} (processing unfinished)"
                what = f"{_said(last)} and nothing" if last else "sent no line"
                raise Fault(Reason.TIMEOUT, f"{what} like {pattern} {waited}") from None
            if line is None:
                said = f", last {_said(last)}" if last else ""
                raise Fault(Reason.BODY_MATCH, f"ended without a line that matches {pattern}{said}")
            match = re.search(pattern, line)
            if match is not None:
                break
            last = line
        self._groups = (match[0], *match.groups())
        self.waited_s += max(0.0, max(self._stream.arrived_s, asked_s) - asked_s)
        self._journey.phase = None


def _said(line: str) -> str:
    return f'said "{redacted(line.encode())[:100]}"'


def _build(target: Target, options: TcpOptions, kit: ProbeKit) -> TcpCheck:
    return TcpCheck(target, options, kit)


KIND = CheckKind(name="tcp", options=TcpOptions, build=_build, measures=(*IP_MEASURES, *TLS_MEASURES))
