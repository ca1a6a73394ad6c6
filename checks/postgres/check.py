"""The look at one PostgreSQL database: knock, log in, vitals, signals; the first that fails speaks."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

import msgspec
from msgspec.structs import replace

from checks.catalog import ProbeKit
from checks.finding import Finding, Measure, Phase, PhaseTime, State
from checks.limits import chosen
from checks.postgres import faults, judge_vitals, vitals
from checks.postgres.flex import FlexSource
from checks.postgres.gate import Gate
from checks.postgres.knock import Knock, Stage
from checks.postgres.options import PostgresOptions
from checks.postgres.reading import Reading
from checks.postgres.server import Server
from checks.postgres.session import QueryRefusedError
from checks.postgres.signals import Signals
from checks.postgres.thresholds import effective
from checks.problem import Problem, finding_of, over
from checks.reason import Reason
from checks.target import Target
from checks.units import Duration

# Silence of the held session has already lasted when a look follows it, so the fresh one may be short.
_DOUBTED_S = 0.5
_DYING_S = 0.015
_DYING_TRIES = 2


class PostgresCheck:
    """Looks at one database through one fresh connection and one held session."""

    def __init__(self, target: Target, options: PostgresOptions, kit: ProbeKit, *, server: Server) -> None:
        self._server = server
        session = server.session
        self._target = target
        self._options = options
        self._clock = kit.clock
        self._place = session.place
        self._knocker = server.knocker
        self._session = session
        self._limits = effective(target.key.env, options.profile, options.thresholds)
        self._flex = (
            FlexSource(options.flycheck_url, options.haproxy_url, kit.resolver)
            if options.flycheck_url or options.haproxy_url
            else None
        )
        self._gate = Gate(
            options.only_while_started,
            kit,
            shown=session.place.shown,
            nameserver=(options.nameserver, options.nameserver_port),
            within_s=float(options.answer_within),
        )
        self._signals = Signals(
            session,
            options,
            self._limits,
            kit.clock,
            environment=target.key.env,
            flex_source=self._flex,
        )
        self._starting_since_s: float | None = None
        self._asked_wall_s = 0.0
        self._asked_for_s = 0.0

    async def probe(self) -> Finding:
        left_alone = await self._gate.closed()
        if left_alone is not None:
            await self._session.close()
            return left_alone
        started = self._clock.monotonic_s()
        finding = await self._look(started)
        return self._with_grace(finding)

    async def close(self) -> None:
        await self._session.close()

    async def _look(self, started: float) -> Finding:
        limit_s = float(self._options.answer_within)
        if self._session.silent or self._session.stalled:
            limit_s = min(limit_s, _DOUBTED_S)
        knock = await self._knock(limit_s)
        if knock.timed_out and knock.stage in (Stage.CONNECT, Stage.ENCRYPTION, Stage.STARTUP):
            return await self._stalled(knock, limit_s)
        self._session.stalled = False
        finding = faults.from_knock(knock, self._place, answer_within_s=limit_s)
        if finding is not None:
            if finding.reason in (Reason.PG_SHUTTING_DOWN, Reason.PG_REFUSED):
                # A held session would block a smart shutdown for as long as it lives.
                await self._session.close()
            if finding.reason is Reason.PG_TOO_MANY_CONNECTIONS and self._session.is_open:
                return await self._inside(knock, started, fallback=finding)
            if self._flex is not None and finding.reason in (Reason.PG_NO_BACKEND, Reason.PG_REFUSED):
                flex = await self._flex.read(within_s=_DOUBTED_S)
                finding = faults.behind_proxy(finding, flex, self._place)
            return replace(finding, phases=knock.phases)
        return await self._inside(knock, started, fallback=None)

    async def _knock(self, limit_s: float) -> Knock:
        knock = await self._knocker.knock(answer_within_s=limit_s)
        for _ in range(_DYING_TRIES):
            if not (knock.closed or isinstance(knock.failure, ConnectionError)) or _is_refused(knock):
                break
            # The socket of a dying server outlives it by some milliseconds: that is no proxy.
            await asyncio.sleep(_DYING_S)
            knock = await self._knocker.knock(answer_within_s=limit_s)
        return knock

    async def _stalled(self, knock: Knock, waited_s: float) -> Finding:
        was_silent = self._session.silent
        if self._session.is_open and await self._session.answers(within_s=_DOUBTED_S):
            finding = faults.accept_stalled(self._place, waited_s=waited_s)
        elif was_silent or self._session.silent:
            finding = faults.frozen(self._place, waited_s=waited_s, also_held=True)
        else:
            known = faults.from_knock(knock, self._place, answer_within_s=waited_s)
            assert known is not None, "a knock that timed out has a finding"
            finding = known
        return replace(finding, phases=knock.phases)

    async def _inside(self, knock: Knock, started: float, *, fallback: Finding | None) -> Finding:
        limit_s = float(self._options.answer_within)
        begun = self._clock.monotonic_s()
        self._session.load()
        loaded = self._clock.monotonic_s()
        started, begun = started + loaded - begun, loaded
        try:
            if fallback is None:
                await self._session.ensure_open(speaks_tls=bool(knock.speaks_tls), within_s=limit_s)
            seen = await self._vitals(limit_s, knock)
            latency_s = self._clock.monotonic_s() - started
            reading = await self._signals.read(seen)
        except QueryRefusedError as refused:
            return replace(
                fallback or faults.from_server_error(refused.error, self._place), phases=knock.phases
            )
        except TimeoutError:
            self._session.silent = True
            return replace(faults.frozen(self._place, waited_s=limit_s, also_held=False), phases=knock.phases)
        except OSError as error:
            # A server that no longer speaks TLS says so to whoever asks for it again.
            self._knocker.forget_tls()
            return replace(fallback or faults.from_os_error(error, self._place), phases=knock.phases)
        phases = (*knock.phases, PhaseTime(phase=Phase.TRANSFER, duration_s=started + latency_s - begun))
        problems = (
            *judge_vitals.judge(
                seen, self._limits, shown=self._place.shown, role=self._options.expected_role
            ),
            *self._slow(latency_s),
            *self._plaintext(seen, knock),
            *self._skew(seen),
            *reading.problems,
        )
        finding = self._finding(seen, problems, reading, latency_s=latency_s)
        self._gate.looked(seen)
        if not self._options.hold:
            await self._session.close()
        return replace(finding, phases=phases)

    async def _vitals(self, limit_s: float, knock: Knock) -> vitals.Vitals:
        seen = await self._read_vitals(limit_s)
        if seen.read_only and seen.set_read_only and seen.database not in seen.read_only_databases:
            # What a session was opened with stays with it: only a fresh one knows that it has been lifted.
            await self._session.close()
            await self._session.ensure_open(speaks_tls=bool(knock.speaks_tls), within_s=limit_s)
            fresh = await self._read_vitals(limit_s)
            seen = msgspec.structs.replace(fresh, set_read_only=self._session.fresh_read_only)
        return seen

    async def _read_vitals(self, limit_s: float) -> vitals.Vitals:
        before_s = self._clock.wall_s()
        text = await self._session.text(vitals.SQL, within_s=limit_s)
        after_s = self._clock.wall_s()
        self._asked_wall_s, self._asked_for_s = (before_s + after_s) / 2, after_s - before_s
        return vitals.parse(text or "{}")

    def _plaintext(self, seen: vitals.Vitals, knock: Knock) -> tuple[Problem, ...]:
        """Data in clear over a public network; private ones and sockets are their own business."""
        if seen.encrypted is not False or self._place.tls != "prefer" or not _is_public(knock.address):
            return ()
        words = (
            f"the session to {self._place.shown} is not encrypted and its way is public: "
            "enable TLS there and set sslmode=verify-full"
        )
        return (Problem(state=State.DEGRADED, reason=Reason.PG_PLAINTEXT, message=words),)

    def _skew(self, seen: vitals.Vitals) -> tuple[Problem, ...]:
        """How far the two clocks are apart at least, whatever the round trip took; whose is wrong is open."""
        apart_s = seen.now_s - self._asked_wall_s
        least_s = abs(apart_s) - self._asked_for_s / 2
        ahead = "ahead of" if apart_s > 0 else "behind"
        return over(
            chosen(self._limits.clock_skew),
            least_s,
            Reason.HOST_CLOCK,
            lambda at: (
                f"the clock of {self._place.shown} is {least_s:.1f} s {ahead} the agent's "
                f"(limit {Duration(at)}): check time synchronisation; a suspended machine lags"
            ),
        )

    def _slow(self, latency_s: float) -> tuple[Problem, ...]:
        own = self._options.slower_than
        limit = chosen(self._limits.latency)
        words = f"{self._place.shown} took {latency_s:.2f} s to let the agent in and answer"
        if own is not None:
            if latency_s < own:
                return ()
            return (Problem(state=State.DEGRADED, reason=Reason.PG_SLOW, message=f"{words} (limit {own})"),)
        return over(limit, latency_s, Reason.PG_SLOW, lambda at: f"{words} (limit {Duration(at)})")

    def _finding(
        self, seen: vitals.Vitals, problems: tuple[Problem, ...], reading: Reading, *, latency_s: float
    ) -> Finding:
        role = "standby" if seen.in_recovery else "primary"
        return finding_of(
            problems,
            fine=(
                f"{self._place.shown} answers as {role} in {latency_s * 1000:.0f} ms, "
                f"{seen.used} of {seen.usable} connections taken"
            ),
            latency_s=latency_s,
            measures=(
                *judge_vitals.measures(seen),
                Measure(name="gaia_postgres_clock_skew_seconds", value=seen.now_s - self._asked_wall_s),
                *reading.measures,
            ),
            evidence=tuple(reading.evidence),
        )

    def _with_grace(self, finding: Finding) -> Finding:
        """Starting up and recovery are `starting` for a while; then the database is simply not there."""
        if finding.state is not State.STARTING:
            self._starting_since_s = None
            return finding
        now = self._clock.monotonic_s()
        if self._starting_since_s is None:
            self._starting_since_s = now
        lasted_s = now - self._starting_since_s
        if lasted_s < self._options.starting_grace:
            return finding
        words = f"{finding.message}, for {lasted_s:.0f} s now (grace {self._options.starting_grace})"
        return replace(finding, state=State.DOWN, message=words)


def _is_refused(knock: Knock) -> bool:
    return isinstance(knock.failure, ConnectionRefusedError)


def _is_public(address: str) -> bool:
    try:
        return ip_address(address).is_global
    except ValueError:
        return False
