"""What streams and consumers mean: from what is seen now and what was seen before to problems."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct

from checks.clock import Clock
from checks.finding import Measure, State
from checks.limits import chosen
from checks.nats import own_limits
from checks.nats.jetstream import Consumer, Seen, Source, Stream
from checks.nats.thresholds import Thresholds
from checks.problem import Problem, over
from checks.reason import Reason
from checks.units import Duration

_MOST_SERIES: Final = 100


class _Progress(Struct):
    acked: int
    since_s: float
    pending: int
    pending_at_s: float
    pending_rate: float | None = None
    growing_since_s: float | None = None


class Streams:
    """Remembers each consumer's progress and each replica's position."""

    def __init__(self, limits: Thresholds, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._progress: dict[tuple[str, str, str], _Progress] = {}
        self._differed: dict[tuple[str, str], str] = {}

    def judge(self, seen: Iterable[Seen], now_s: float) -> tuple[list[Problem], list[Measure]]:
        """Problems and numbers of one round, `now_s` monotonic."""
        groups: dict[tuple[str, str], list[Seen]] = {}
        for one in seen:
            groups.setdefault((one.account, one.stream.called), []).append(one)
        problems: list[Problem] = []
        measures: list[Measure] = []
        alive: set[tuple[str, str, str]] = set()
        for (account, name), copies in groups.items():
            best = _leaders_view(copies)
            problems += self._stream(best, account)
            problems += self._replicas(copies, account, name)
            if len(measures) < _MOST_SERIES:
                measures += _measures(best)
            for consumer in _consumers(copies):
                key = (account, name, consumer.name)
                alive.add(key)
                problems += self._consumer(key, consumer, now_s)
        self._progress = {key: value for key, value in self._progress.items() if key in alive}
        return problems, measures

    def _stream(self, stream: Stream, account: str) -> Iterator[Problem]:
        name = _named(stream.called, account)
        group = stream.cluster
        if group is not None and stream.config.num_replicas > 1 and not group.leader:
            words = f"stream {name} has no leader: nothing can be stored or read; start its missing replicas"
            yield Problem(state=State.DOWN, reason=Reason.JS_STREAM_NO_LEADER, message=words, urgent=True)
        if group is not None and stream.config.num_replicas > 1 and group.leader:
            yield from self._peers(stream, name)
        yield from self._fill(stream, name)
        for source in (stream.mirror, *stream.sources):
            if source is not None:
                yield from self._source(source, stream.created, name)
        yield from own_limits.judge_stream(stream, name)

    def _source(self, source: Source, created: str, name: str) -> Iterator[Problem]:
        yield from over(
            chosen(self._limits.source_lag),
            source.lag,
            Reason.JS_PEER_LAG,
            lambda at: (
                f"stream {name} is {source.lag} messages behind {source.name}, which it copies (limit {at:g})"
            ),
        )
        seen_s, how = source.active / 1e9, "not"
        if source.active < 0:
            # Never heard, which right after its creation is no news.
            seen_s, how = own_limits.since(created, self._clock.wall_s()) or 0.0, "never"
        yield from over(
            chosen(self._limits.source_seen),
            seen_s,
            Reason.JS_PEER_LAG,
            lambda at: (
                f"stream {name} has {how} heard {source.name}, which it copies, for {seen_s:.0f} s "
                f"(limit {Duration(at)}): does that stream still exist, and is there a way to it?"
            ),
        )

    def _peers(self, stream: Stream, name: str) -> Iterator[Problem]:
        group = stream.cluster
        assert group is not None, "asked only with a group"
        lost = [peer.name for peer in group.replicas if peer.offline]
        present = stream.config.num_replicas - len(lost)
        if lost and present * 2 > stream.config.num_replicas:
            words = (
                f"stream {name} has lost {len(lost)} of {stream.config.num_replicas} replicas "
                f"({', '.join(lost)}): one more failure stops writes"
            )
            yield Problem(state=State.DEGRADED, reason=Reason.JS_REDUNDANCY_LOST, message=words)
        for peer in group.replicas:
            yield from over(
                chosen(self._limits.peer_lag),
                peer.lag,
                Reason.JS_PEER_LAG,
                lambda at, peer=peer: (  # type: ignore[misc]  # bound per turn.
                    f"replica {peer.name} of stream {name} is {peer.lag} operations behind (limit {at:g})"
                ),
            )

    def _fill(self, stream: Stream, name: str) -> Iterator[Problem]:
        """Only a stream that refuses new messages can be full; the others drop old ones by design."""
        if stream.config.discard != "new":
            return
        parts = (
            (stream.state.messages, stream.config.max_msgs, "messages"),
            (stream.state.bytes, stream.config.max_bytes, "bytes"),
        )
        for used, most, unit in parts:
            if most <= 0:
                continue
            if used >= most:
                words = (
                    f"stream {name} is full ({used} of {most} {unit}) and refuses messages: "
                    "consume faster, or raise its limit"
                )
                yield Problem(state=State.DOWN, reason=Reason.JS_STREAM_FULL, message=words, urgent=True)
                return
            yield from over(
                chosen(self._limits.stream_fill),
                used / most,
                Reason.JS_STREAM_FULL,
                lambda at, used=used, most=most, unit=unit: (  # type: ignore[misc]  # bound per turn.
                    f"stream {name} is {used / most:.0%} full ({used} of {most} {unit}, limit {at:.0%}) "
                    "and will refuse messages"
                ),
            )

    def _replicas(self, copies: list[Seen], account: str, name: str) -> Iterator[Problem]:
        """Replicas that hold the same last message but not the same messages, twice in a row, disagree."""
        key = (account, name)
        leaders = {one.stream.cluster.leader for one in copies if one.stream.cluster is not None} - {""}
        if len(leaders) > 1:
            words = f"stream {_named(name, account)} has {len(leaders)} leaders: {', '.join(sorted(leaders))}"
            yield Problem(
                state=State.DEGRADED, reason=Reason.JS_REPLICA_DIVERGENCE, message=words, urgent=True
            )
        states = {one.server: one.stream.state for one in copies}
        last = {state.last_seq for state in states.values()}
        held = {(state.first_seq, state.messages) for state in states.values()}
        if len(last) > 1 or len(held) == 1:
            self._differed.pop(key, None)
            return
        told = ", ".join(f"{server} {state.messages}" for server, state in sorted(states.items()))
        if self._differed.get(key) == told:
            words = f"the replicas of stream {_named(name, account)} disagree on its messages: {told}"
            yield Problem(
                state=State.DEGRADED, reason=Reason.JS_REPLICA_DIVERGENCE, message=words, urgent=True
            )
        self._differed[key] = told

    def _consumer(self, key: tuple[str, str, str], consumer: Consumer, now_s: float) -> Iterator[Problem]:
        name = f"consumer {consumer.name} of stream {_named(key[1], key[0])}"
        progress = self._progress.get(key)
        acked = consumer.ack_floor.stream_seq
        if progress is None or acked != progress.acked or not consumer.num_ack_pending:
            progress = _next_progress(progress, consumer, now_s)
            self._progress[key] = progress
        most = consumer.config.max_ack_pending
        if 0 < most <= consumer.num_ack_pending and consumer.num_pending:
            stalled_s = now_s - progress.since_s
            yield from over(
                chosen(self._limits.consumer_stalled),
                stalled_s,
                Reason.JS_CONSUMER_STALLED,
                lambda at: (
                    f"{name} makes no progress for {stalled_s:.0f} s (limit {Duration(at)}): {most} messages "
                    f"are unacknowledged and {consumer.num_pending} wait; its client hangs or never acks"
                ),
            )
        rate = progress.pending_rate
        if consumer.num_pending and rate is not None and rate < 0:
            drain_s = consumer.num_pending / -rate
            yield from over(
                chosen(self._limits.drain_time),
                drain_s,
                Reason.JS_CONSUMER_LAG,
                lambda at: (
                    f"{name} needs {drain_s / 60:.0f} min for the {consumer.num_pending} messages waiting "
                    f"(limit {Duration(at)}): add consumers"
                ),
            )
        _measure_rate(progress, consumer, now_s)
        yield from self._growing(progress, consumer, name, now_s)
        yield from self._unacknowledged(consumer, name)
        yield from own_limits.judge_consumer(consumer, name, self._clock.wall_s())

    def _growing(self, progress: _Progress, consumer: Consumer, name: str, now_s: float) -> Iterator[Problem]:
        rate, since_s = progress.pending_rate, progress.growing_since_s
        if rate is None or rate <= 0 or since_s is None:
            return
        yield from over(
            chosen(self._limits.pending_growing),
            now_s - since_s,
            Reason.JS_CONSUMER_LAG,
            lambda at: (
                f"{name} falls behind by {rate * 60:.0f} messages a minute, for "
                f"{(now_s - since_s) / 60:.0f} min now (limit {Duration(at)}), and "
                f"{consumer.num_pending} wait: add consumers"
            ),
        )

    def _unacknowledged(self, consumer: Consumer, name: str) -> Iterator[Problem]:
        """Something waits, something was given, and nothing has been acknowledged for long."""
        age_s = own_limits.since(consumer.ack_floor.last_active, self._clock.wall_s())
        if age_s is None or not consumer.num_pending or not consumer.num_ack_pending:
            return
        yield from over(
            chosen(self._limits.ack_age),
            age_s,
            Reason.JS_CONSUMER_STALLED,
            lambda at: (
                f"{name} last acknowledged a message {age_s / 60:.0f} min ago (limit {Duration(at)}) and "
                f"{consumer.num_pending} wait: its client hangs or never acks"
            ),
        )


def _next_progress(before: _Progress | None, consumer: Consumer, now_s: float) -> _Progress:
    if before is None:
        return _Progress(
            acked=consumer.ack_floor.stream_seq,
            since_s=now_s,
            pending=consumer.num_pending,
            pending_at_s=now_s,
        )
    before.acked, before.since_s = consumer.ack_floor.stream_seq, now_s
    return before


def _measure_rate(progress: _Progress, consumer: Consumer, now_s: float) -> None:
    """The pace of waiting messages per second, over at least ten seconds."""
    span_s = now_s - progress.pending_at_s
    if span_s >= 10:
        progress.pending_rate = (consumer.num_pending - progress.pending) / span_s
        if progress.pending_rate <= 0:
            progress.growing_since_s = None
        elif progress.growing_since_s is None:
            progress.growing_since_s = progress.pending_at_s
        progress.pending, progress.pending_at_s = consumer.num_pending, now_s


def _leaders_view(copies: list[Seen]) -> Stream:
    """The leader's own copy where there is one: followers may be behind."""
    for one in copies:
        group = one.stream.cluster
        if group is None or group.leader == one.server or (group.leader and not one.server):
            return one.stream
    return copies[0].stream


def _consumers(copies: list[Seen]) -> Iterator[Consumer]:
    """Each consumer once, as the server that leads it sees it."""
    best: dict[str, Consumer] = {}
    for one in copies:
        for consumer in one.stream.consumers:
            leads = consumer.cluster is None or consumer.cluster.leader == one.server
            if leads or consumer.name not in best:
                best[consumer.name] = consumer
    yield from best.values()


def _named(stream: str, account: str) -> str:
    return stream if account in ("", "$G") else f"{stream} (account {account})"


def _measures(stream: Stream) -> Iterator[Measure]:
    labels = (("stream", stream.called),)
    yield Measure(name="gaia_nats_stream_messages", value=float(stream.state.messages), labels=labels)
    yield Measure(name="gaia_nats_stream_bytes", value=float(stream.state.bytes), labels=labels)
    for source in (stream.mirror, *stream.sources):
        if source is not None:
            whence = (*labels, ("source", source.name))
            yield Measure(name="gaia_nats_source_lag", value=float(source.lag), labels=whence)
    for consumer in stream.consumers:
        both = (*labels, ("consumer", consumer.name))
        for name, value in (
            ("pending", consumer.num_pending),
            ("ack_pending", consumer.num_ack_pending),
            ("redelivered", consumer.num_redelivered),
        ):
            yield Measure(name=f"gaia_nats_consumer_{name}", value=float(value), labels=both)
