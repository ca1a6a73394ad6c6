"""The TLS check: a handshake and nothing more; the whole chain's expiry, also when it does not verify."""

from __future__ import annotations

import msgspec

from checks.catalog import CheckKind, ProbeKit
from checks.finding import Finding, State
from checks.reason import Reason
from checks.target import Target
from checks.units import Duration
from checks.wire.address import split_address
from checks.wire.dial import CertificateFault, Family, connect, resolve, secure
from checks.wire.expiry import chain_evidence, day, earliest, expiring
from checks.wire.journey import Journey
from checks.wire.look import broken, look, spell
from checks.wire.measures import IP_MEASURES, TLS_MEASURES, way_measures
from checks.wire.starttls import StartTls, start_tls
from checks.wire.tls_options import TlsOptions


class TlsCheckOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One TLS check of `address` (host:port), optionally after STARTTLS."""

    address: str
    starttls: StartTls | None = None
    tls: TlsOptions = TlsOptions()
    slower_than: Duration = Duration(2)
    timeout: Duration = Duration(5)
    ip: Family = "any"

    def __post_init__(self) -> None:
        split_address(self.address)


class TlsCheck:
    """Shakes hands with `options.address`."""

    def __init__(self, target: Target, options: TlsCheckOptions, kit: ProbeKit) -> None:
        self._target = target
        self._options = options
        self._kit = kit
        self._host, self._port = split_address(options.address)

    async def probe(self) -> Finding:
        return await look(self._target, self._options.timeout, self._shake_hands)

    async def _shake_hands(self, journey: Journey) -> Finding:
        options = self._options
        addresses = await resolve(self._host, options.ip, self._kit.resolver, journey)
        wire = await connect(addresses, self._port, journey)
        try:
            if options.starttls is not None:
                await start_tls(wire, options.starttls)
            stream, seen = await secure(wire, self._host, options.tls, journey)
            stream.close()
        except CertificateFault as fault:
            for fact in chain_evidence(fault.chain):
                journey.note(fact.name, fact.value)
            return broken(self._target, journey, fault, way_measures(journey.ip, None, fault.chain))
        finally:
            wire.close()
        expiry = expiring(seen.needed, options.tls, now_s=self._kit.clock.wall_s())
        first = earliest(seen.needed)
        latency_s = journey.latency_s or 0.0
        until = f", certificate valid until {day(first.not_after_s)}" if first is not None else ""
        state, reason = State.UP, Reason.OK
        words = f"speaks {seen.version} in {spell(latency_s)}{until}"
        if expiry is not None:
            state, reason, words = expiry.state, expiry.reason, expiry.words
        elif latency_s > options.slower_than:
            state, reason = State.DEGRADED, Reason.SLOW
            words = f"speaks {seen.version} in {spell(latency_s)}, slower than {options.slower_than}"
        return Finding(
            state=state,
            reason=reason,
            message=f"{self._target.address} {words}",
            latency_s=latency_s,
            phases=journey.phases(),
            measures=way_measures(journey.ip, seen, seen.chain),
            evidence=(*chain_evidence(seen.chain), *journey.facts()),
        )

    async def close(self) -> None:
        """Nothing is held between looks."""


def _build(target: Target, options: TlsCheckOptions, kit: ProbeKit) -> TlsCheck:
    return TlsCheck(target, options, kit)


KIND = CheckKind(name="tls", options=TlsCheckOptions, build=_build, measures=(*IP_MEASURES, *TLS_MEASURES))
