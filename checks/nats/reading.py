"""Everything known about a broker beside that it answers: gathered, compared with the last look, judged."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct, field

from checks.catalog import ProbeKit
from checks.finding import Evidence, Measure, State
from checks.limits import chosen
from checks.nats import canaries, cluster, jetstream, judge_server, monitoring, neighbours, server, storage
from checks.nats.accounts import Accounts
from checks.nats.faults import LINK_FAILURES
from checks.nats.jetstream import Jsz, Seen
from checks.nats.judge_jetstream import Streams
from checks.nats.link import Link
from checks.nats.monitoring import Monitored
from checks.nats.options import NatsOptions
from checks.nats.server import Server
from checks.nats.thresholds import Thresholds
from checks.nats.traffic import Rates
from checks.nats.visit import Visit
from checks.problem import Problem
from checks.reason import Reason
from checks.small_get import SmallGet
from checks.units import Duration

_ISOLATION_EVERY_S: Final = 60.0


class Reading(Struct):
    """What one look added."""

    problems: list[Problem] = field(default_factory=list)
    measures: list[Measure] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)


class Readings:
    """Keeps the last reading of each server, since most signals are differences."""

    def __init__(self, options: NatsOptions, limits: Thresholds, kit: ProbeKit) -> None:
        self._options = options
        self._limits = limits
        self._kit = kit
        self._clock = kit.clock
        self._within_s = float(options.answer_within)
        context = options.tls_context() if options.ca_file else None
        self._monitors = tuple(SmallGet(url, kit.resolver, context=context) for url in options.monitors())
        # One server goes by one name in every series, its client address where the two lists agree.
        shown = tuple(place.shown for place in options.places())
        own = tuple(monitor.shown for monitor in self._monitors)
        self._names = shown if len(shown) == len(own) else own
        self._before: dict[str, Server] = {}
        self._since_s: dict[str, float] = {}
        self._due_s: dict[str, float] = {}
        self._kept: dict[str, canaries.Tried] = {}
        self._streams = Streams(limits, kit.clock)
        self._rates = Rates(limits)

    async def read(self, link: Link, visits: list[Visit]) -> Reading:
        """Never raises OSError or TimeoutError; what cannot be read is a problem of its own."""
        reading = Reading()
        dead = {visit.place.shown for visit in visits if visit.link is None}
        seen = await self._servers(reading, dead)
        reading.problems += self._size(visits, seen)
        self._around(reading, seen)
        if self._options.jetstream:
            await self._jetstream(link, reading, seen)
        try:
            await self._canaries(link, reading, max(len(seen), len(visits) - len(dead)))
        except (OSError, *LINK_FAILURES, msgspec.MsgspecError) as error:
            words = f"{type(error).__name__}: {error}"
            reading.evidence.append(Evidence(name="unknown: canaries", value=words))
        return reading

    async def _servers(self, reading: Reading, dead: set[str]) -> dict[str, Monitored]:
        pairs = [(n, m) for n, m in zip(self._names, self._monitors, strict=True) if n not in dead]
        outcomes = await asyncio.gather(*(self._server(name, monitor) for name, monitor in pairs))
        seen: dict[str, Monitored] = {}
        for (name, monitor), outcome in zip(pairs, outcomes, strict=True):
            if isinstance(outcome, Problem):
                reading.problems.append(outcome)
                continue
            seen[name] = outcome
            one = outcome.server
            own = self._options.memory
            reading.problems += judge_server.judge(
                one, self._before.get(name), self._limits, shown=monitor.shown, machine_bytes=own
            )
            reading.problems += self._rates.judge(one, self._before.get(name), shown=monitor.shown)
            reading.problems += self._ready(one, monitor.shown)
            reading.measures += server.measures(one, name, machine_bytes=own)
            self._before[name] = one
        return seen

    async def _server(self, name: str, monitor: SmallGet) -> Monitored | Problem:
        try:
            return await monitoring.read(monitor, self._options, self._clock, before=self._before.get(name))
        except (OSError, ValueError, TimeoutError) as error:
            why = "no answer in time" if isinstance(error, TimeoutError) else str(error)
            words = f"the monitoring port {monitor.shown} cannot be read ({why}): less is known"
            return Problem(state=State.DEGRADED, reason=Reason.NATS_MONITORING, message=words)

    def _ready(self, seen: Server, shown: str) -> Iterator[Problem]:
        if seen.ready:
            self._since_s.pop(shown, None)
            return
        if "no space left" in seen.ready_text:
            words = f"JetStream on {shown} cannot write, no space left: extend its volume or delete streams"
            yield Problem(state=State.DOWN, reason=Reason.JS_DISK_FULL, message=words, urgent=True)
            return
        since_s = self._since_s.setdefault(shown, seen.at_s)
        limit = chosen(self._limits.not_ready)
        patience_s = None if limit is None else limit.critical or limit.warn
        # A new leader is elected within two to five seconds; until then 503 is no fault.
        if patience_s is None or seen.at_s - since_s < patience_s:
            return
        words = f"{shown}/healthz says for {seen.at_s - since_s:.0f} s it is not ready: {seen.ready_text}"
        yield Problem(state=State.DEGRADED, reason=Reason.NATS_NOT_READY, message=words, urgent=True)

    def _size(self, visits: list[Visit], seen: dict[str, Monitored]) -> Iterator[Problem]:
        """The fewest servers any witness counts: our own visits, and each server's routes."""
        meta = [one.jsz.meta_cluster for one in seen.values() if one.jsz and one.jsz.meta_cluster]
        expected = max([self._options.cluster_size or len(visits), *(group.cluster_size for group in meta)])
        lost = [visit.place.shown for visit in visits if visit.link is None]
        counts = [len(one.routez.names()) for one in seen.values()]
        if len(visits) > 1:
            counts.append(expected - len(lost))
        if counts:
            # The best connected server speaks for the cluster; a lone one may be cut off itself.
            alive = min(max(counts[: len(seen)], default=expected), *counts[len(seen) :], expected)
            yield from cluster.size(
                alive=alive, expected=expected, lost=", ".join(lost), jetstream=self._options.jetstream
            )

    def _around(self, reading: Reading, seen: dict[str, Monitored]) -> None:
        """Leaf nodes, gateways and accounts."""
        leafs = {name: one.leafz for name, one in seen.items() if one.leafz is not None}
        gates = {name: one.gatewayz for name, one in seen.items() if one.gatewayz is not None}
        reading.problems += neighbours.leaf_nodes(self._options.leaf_nodes, leafs)
        reading.problems += neighbours.gateways(self._options.gateways, gates)
        reading.measures += [neighbours.leaf_measures(leafz, name) for name, leafz in leafs.items()]
        reading.measures += [neighbours.gateway_measures(gatewayz, name) for name, gatewayz in gates.items()]
        accounts = Accounts(
            [one.accstatz for one in seen.values()],
            [one.jsz for one in seen.values() if one.jsz is not None],
        )
        reading.problems += accounts.judge(self._limits, connections=self._options.account_connections)
        reading.measures += accounts.measures()

    async def _jetstream(self, link: Link, reading: Reading, seen: dict[str, Monitored]) -> None:
        if not link.info.jetstream or any(not one.server.varz.has_jetstream for one in seen.values()):
            words = "JetStream should be there and is switched off: nothing is stored; see its configuration"
            reading.problems.append(
                Problem(state=State.DOWN, reason=Reason.JS_DISABLED, message=words, urgent=True)
            )
            return
        now_s = self._clock.monotonic_s()
        streams = [
            Seen(account=account.name, server=one.server.varz.server_name, stream=stream)
            for one in seen.values()
            if one.jsz is not None
            for account in one.jsz.accounts
            for stream in account.streams
        ]
        by_name = {one.server.varz.server_name: one.jsz for one in seen.values() if one.jsz is not None}
        reading.problems += self._meta(by_name, now_s)
        reading.problems += cluster.peers(by_name, self._limits)
        for name, one in seen.items():
            if one.jsz is not None:
                directory = Path(one.jsz.config.store_dir) if name.startswith(("127.", "localhost")) else None
                reading.problems += storage.judge(one.jsz, self._limits, shown=name, directory=directory)
        reading.problems += await self._account(link, streams if seen else None)
        problems, measures = self._streams.judge(streams, now_s)
        reading.problems += problems
        reading.measures += measures

    def _meta(self, by_name: dict[str, Jsz], now_s: float) -> Iterator[Problem]:
        groups = [jsz.meta_cluster for jsz in by_name.values() if jsz.meta_cluster is not None]
        if not groups or any(group.leader for group in groups):
            self._since_s.pop("meta", None)
            return
        since_s = self._since_s.setdefault("meta", now_s)
        limit = chosen(self._limits.not_ready)
        patience_s = 5.0 if limit is None else limit.critical or limit.warn or 5.0
        if now_s - since_s >= patience_s:
            words = (
                f"JetStream has had no leader for {now_s - since_s:.0f} s: no quorum; nothing can be created"
            )
            yield Problem(state=State.DOWN, reason=Reason.JS_NO_QUORUM, message=words, urgent=True)

    async def _account(self, link: Link, streams: list[Seen] | None) -> list[Problem]:
        """Our own account's use, and its streams where no monitoring port told them (`streams` None)."""
        problems: list[Problem] = []
        try:
            async with asyncio.timeout(self._within_s):
                info = await jetstream.account_info(link)
                if info.error is not None:
                    return [canaries.from_api_error(info.error, "the JetStream API refuses")]
                problems += storage.judge_account(info, self._limits, monitored=streams is not None)
                if streams is None:
                    found = await jetstream.streams_by_api(link)
                    problems += self._streams.judge(found, self._clock.monotonic_s())[0]
        except TimeoutError:
            words = f"the JetStream API does not answer within {Duration(self._within_s)}: it has no leader"
            problems.append(Problem(state=State.DOWN, reason=Reason.JS_NO_QUORUM, message=words, urgent=True))
        except (OSError, *LINK_FAILURES, msgspec.MsgspecError) as error:
            words = f"the JetStream API could not be asked ({error})"
            problems.append(Problem(state=State.UNKNOWN, reason=Reason.NATS_NOT_PERMITTED, message=words))
        return problems

    async def _canaries(self, link: Link, reading: Reading, servers: int) -> None:
        options, within_s = self._options, self._within_s
        tried = [
            await canaries.services(link, options.services, within_s=within_s),
            await canaries.answers(link, options.answers, within_s=within_s),
        ]
        if options.canary is not None and options.jetstream and self._is_due("store", float(options.canary)):
            replicas = 3 if servers >= 3 else 1
            self._kept["store"] = await canaries.store(
                link, self._limits, self._clock, within_s=within_s, replicas=replicas
            )
        if len(options.isolated) > 1 and self._is_due("isolation", _ISOLATION_EVERY_S):
            self._kept["isolation"] = await canaries.isolation(options.isolated, self._kit, within_s=within_s)
        for one in (*tried, *self._kept.values()):
            reading.problems += one.problems
            reading.measures += one.measures
        if any("permissions violation" in text.lower() for text in link.errors):
            reading.evidence.append(Evidence(name="not_permitted", value=link.errors[-1][:200]))

    def _is_due(self, name: str, every_s: float) -> bool:
        """Also at every look while the last try was bad."""
        now_s = self._clock.monotonic_s()
        kept = self._kept.get(name)
        if kept is not None and not kept.problems and now_s < self._due_s.get(name, 0.0):
            return False
        self._due_s[name] = now_s + every_s
        return True
