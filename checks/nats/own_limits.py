"""Thresholds that travel with a stream or consumer in its metadata, as `nats server check` reads them: pure.

Source: the keys `io.nats.monitor.*` of the NATS command line tools. Two of them read unlike the others:
`msgs-*` is reached from above (a stream that holds too little), and `subjects-*` from either side, by which
of its two numbers is larger.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from checks.finding import State
from checks.nats.jetstream import Consumer, Stream
from checks.problem import Problem
from checks.reason import Reason
from checks.units import Duration

_PREFIX: Final = "io.nats.monitor."


class Own:
    """One table of metadata. What cannot be read is a problem of its own, told once it was asked for."""

    def __init__(self, metadata: dict[str, str], subject: str) -> None:
        self._metadata = metadata if metadata.get(f"{_PREFIX}enabled", "true").lower() != "false" else {}
        self.subject = subject
        self.unread: list[Problem] = []

    def number(self, key: str) -> float | None:
        """A positive number; 0 or nothing means no limit."""
        written = self._metadata.get(_PREFIX + key)
        try:
            return None if written is None else float(written) or None
        except ValueError:
            self._refuse(key, written or "", "a number")
            return None

    def seconds(self, key: str) -> float | None:
        """A duration such as 5m; 0 or nothing means no limit."""
        written = self._metadata.get(_PREFIX + key)
        try:
            return None if written is None else float(Duration.parse(written)) or None
        except ValueError:
            self._refuse(key, written or "", "a duration such as 5m")
            return None

    def critical(self, key: str, value: float, reason: Reason, what: str) -> Iterator[Problem]:
        """A problem when `value` reaches `key`-critical."""
        yield from _reached(self.number(f"{key}-critical"), value, reason, f"{self.subject} {what}")

    def _refuse(self, key: str, written: str, wanted: str) -> None:
        words = (
            f'{self.subject} has the metadata {_PREFIX}{key} "{written[:40]}", which is not {wanted}: '
            "it is not judged; correct it"
        )
        self.unread.append(Problem(state=State.UP, reason=Reason.CONFIG, message=words))


def judge_stream(stream: Stream, name: str) -> Iterator[Problem]:
    """What a stream's own metadata says of it."""
    own = Own(stream.config.metadata, f"stream {name}")
    yield from _messages(own, stream.state.messages)
    yield from _subjects(own, stream.state.num_subjects)
    yield from _sources(own, stream)
    yield from _peers(own, stream)
    yield from own.unread


def judge_consumer(consumer: Consumer, name: str, now_s: float) -> Iterator[Problem]:
    """What a consumer's own metadata says of it; `now_s` is wall time."""
    own = Own(consumer.config.metadata, name)
    counts = (
        ("outstanding-ack", consumer.num_ack_pending, Reason.JS_CONSUMER_STALLED, "unacknowledged messages"),
        ("waiting", consumer.num_waiting, Reason.JS_CONSUMER_STALLED, "waiting pulls"),
        ("unprocessed", consumer.num_pending, Reason.JS_CONSUMER_LAG, "messages waiting"),
        ("redelivery", consumer.num_redelivered, Reason.JS_POISON_MESSAGES, "redelivered messages"),
    )
    for key, value, reason, what in counts:
        yield from own.critical(key, value, reason, f"has {value} {what}")
    for key, position, last, never in (
        ("last-delivery", consumer.delivered, "was last given a message", "was never given a message"),
        ("last-ack", consumer.ack_floor, "last acknowledged a message", "never acknowledged a message"),
    ):
        limit = own.seconds(f"{key}-critical")
        if limit is None:
            continue
        age_s = since(position.last_active, now_s)
        if age_s is None:
            yield _problem(Reason.JS_CONSUMER_STALLED, f"{name} {never} (its own limit {limit:g} s)")
        else:
            words = f"{name} {last} {age_s:.0f} s ago"
            yield from _reached(limit, age_s, Reason.JS_CONSUMER_STALLED, words, unit=" s")
    yield from own.unread


def since(rfc3339: str, now_s: float) -> float | None:
    """Seconds since that moment; None when there was none."""
    try:
        return max(now_s - datetime.fromisoformat(rfc3339).timestamp(), 0.0)
    except ValueError:
        return None


def _messages(own: Own, held: int) -> Iterator[Problem]:
    for key, urgent in (("msgs-critical", True), ("msgs-warn", False)):
        limit = own.number(key)
        if limit is not None and held <= limit:
            words = f"{own.subject} holds only {held} messages (its own limit {key} is {limit:g})"
            yield _problem(Reason.JS_STREAM_EMPTY, words, urgent=urgent)
            return


def _subjects(own: Own, held: int) -> Iterator[Problem]:
    warn, critical = own.number("subjects-warn"), own.number("subjects-critical")
    rising = (warn or 0) < (critical or 0)
    for limit, key in ((critical, "subjects-critical"), (warn, "subjects-warn")):
        if limit is not None and (held >= limit if rising else held <= limit):
            words = f"{own.subject} has {held} subjects (its own limit {key} is {limit:g})"
            reason = Reason.JS_STORAGE_HIGH if rising else Reason.JS_STREAM_EMPTY
            yield _problem(reason, words, urgent=key.endswith("critical"))
            return


def _sources(own: Own, stream: Stream) -> Iterator[Problem]:
    least, most = own.number("min-sources"), own.number("max-sources")
    count = len(stream.sources)
    if (least is not None and count < least) or (most is not None and count > most):
        words = f"{own.subject} has {count} sources (its own limits: at least {least or 0:g}"
        words += ")" if most is None else f", at most {most:g})"
        yield _problem(Reason.JS_PEER_LAG, words)
    seen_limit = own.seconds("seen-critical")
    for source in (stream.mirror, *stream.sources):
        if source is None:
            continue
        what = f"is {source.lag} messages behind {source.name}"
        yield from own.critical("lag", source.lag, Reason.JS_PEER_LAG, what)
        if source.active >= 0:
            seen_s = source.active / 1e9
            words = f"{own.subject} has not heard {source.name} for {seen_s:.0f} s"
            yield from _reached(seen_limit, seen_s, Reason.JS_PEER_LAG, words, unit=" s")


def _peers(own: Own, stream: Stream) -> Iterator[Problem]:
    group = stream.cluster
    peers = () if group is None else group.replicas
    expected = own.number("peer-expect")
    present = len(peers) + bool(group is not None and group.leader)
    if expected is not None and present != expected:
        words = f"{own.subject} has {present} peers (its own limit peer-expect is {expected:g})"
        yield _problem(Reason.JS_REDUNDANCY_LOST, words)
    seen_limit = own.seconds("peer-seen-critical")
    for peer in peers:
        what = f"has a replica {peer.name} that is {peer.lag} operations behind"
        yield from own.critical("peer-lag", peer.lag, Reason.JS_PEER_LAG, what)
        seen_s = peer.active / 1e9
        words = f"{own.subject} has not heard its replica {peer.name} for {seen_s:.0f} s"
        yield from _reached(seen_limit, seen_s, Reason.JS_PEER_LAG, words, unit=" s")


def _reached(
    limit: float | None, value: float, reason: Reason, words: str, *, unit: str = ""
) -> Iterator[Problem]:
    if limit is not None and value >= limit:
        yield _problem(reason, f"{words} (its own limit {limit:g}{unit})")


def _problem(reason: Reason, words: str, *, urgent: bool = True) -> Problem:
    return Problem(state=State.DEGRADED, reason=reason, message=words, urgent=urgent)
