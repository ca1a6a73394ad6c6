"""What streams, consumers, clusters and storage mean, from readings made up for it."""

from __future__ import annotations

import base64
from pathlib import Path

import msgspec
import pytest

from checks.clock import SystemClock
from checks.finding import State
from checks.nats import cluster, storage
from checks.nats.credentials import read_credentials
from checks.nats.jetstream import (
    AccountInfo,
    Consumer,
    ConsumerConfig,
    Group,
    Jsz,
    Limits,
    Peer,
    Position,
    Seen,
    Source,
    Stream,
    StreamConfig,
    StreamState,
)
from checks.nats.judge_jetstream import Streams
from checks.nats.options import NatsOptions
from checks.nats.place import parse_urls
from checks.nats.thresholds import Thresholds, effective
from checks.reason import Reason
from checks.secret import Secret
from tests.faults.deep.looking import look_once
from tests.servers import private_nats

LIMITS = effective("production", "auto", Thresholds())


def replicated(server: str, *, leader: str = "n1", messages: int = 5, last: int = 5, **more: object) -> Seen:
    stream = Stream(
        name="ORDERS",
        config=StreamConfig(num_replicas=3),
        state=StreamState(messages=messages, first_seq=1, last_seq=last),
        cluster=Group(leader=leader),
    )
    return Seen(account="$G", server=server, stream=msgspec.structs.replace(stream, **more))


def told(*rounds: tuple[Seen, ...], every_s: float = 10.0) -> list[tuple[State, Reason, str]]:
    streams = Streams(LIMITS, SystemClock())
    for number, seen in enumerate(rounds):
        problems, _ = streams.judge(seen, number * every_s)
    return [(one.state, one.reason, one.message) for one in problems]


def test_a_stream_without_a_leader_is_down() -> None:
    ((state, reason, message),) = told(tuple(replicated(name, leader="") for name in ("n1", "n2")))
    assert (state, reason) == (State.DOWN, Reason.JS_STREAM_NO_LEADER)
    assert "ORDERS has no leader" in message


def test_a_lost_replica_is_one_failure_from_the_end() -> None:
    group = Group(leader="n1", replicas=(Peer(name="n2", current=True), Peer(name="n3", offline=True)))
    ((state, reason, message),) = told((replicated("n1", cluster=group),))
    assert (state, reason) == (State.DEGRADED, Reason.JS_REDUNDANCY_LOST)
    assert "(n3)" in message


def test_a_replica_far_behind_is_told() -> None:
    group = Group(leader="n1", replicas=(Peer(name="n2", current=True, lag=500),))
    ((_, reason, message),) = told((replicated("n1", cluster=group),))
    assert (reason, "n2 of stream ORDERS is 500 operations behind" in message) == (Reason.JS_PEER_LAG, True)


def test_two_leaders_are_told() -> None:
    found = told((replicated("n1"), replicated("n2", leader="n2")))
    assert [one[1] for one in found] == [Reason.JS_REPLICA_DIVERGENCE]


def test_replicas_that_disagree_twice_are_told_and_once_is_no_proof() -> None:
    differing = (replicated("n1"), replicated("n2", messages=4))
    assert told(differing) == []
    ((_, reason, message),) = told(differing, differing)
    assert reason is Reason.JS_REPLICA_DIVERGENCE
    assert "n1 5, n2 4" in message


def test_a_follower_that_is_only_behind_does_not_disagree() -> None:
    behind = (replicated("n1", messages=9, last=9), replicated("n2"))
    assert told(behind, behind) == []


def test_a_mirror_far_behind_is_told() -> None:
    ((_, reason, message),) = told((replicated("n1", mirror=Source(name="ORIGIN", lag=5000)),))
    assert (reason, "5000 messages behind ORIGIN" in message) == (Reason.JS_PEER_LAG, True)


def test_a_source_not_heard_for_long_is_told() -> None:
    ((_, reason, message),) = told((replicated("n1", sources=(Source(name="A", active=90_000_000_000),)),))
    assert reason is Reason.JS_PEER_LAG
    assert "has not heard A, which it copies, for 90 s (limit 1m)" in message


def test_a_source_never_heard_is_told_once_the_stream_is_old_enough() -> None:
    sources = (Source(name="A", active=-1),)
    assert told((replicated("n1", sources=sources),)) == []
    ((_, reason, message),) = told((replicated("n1", sources=sources, created="2020-01-01T00:00:00Z"),))
    assert reason is Reason.JS_PEER_LAG
    assert "has never heard A" in message


def with_consumer(pending: int, **more: object) -> tuple[Seen, ...]:
    consumer = Consumer(name="worker", num_pending=pending, **more)  # type: ignore[arg-type]
    return (replicated("n1", consumers=(consumer,)),)


def test_a_consumer_that_needs_too_long_is_told_with_its_time() -> None:
    found = told(with_consumer(100_000), with_consumer(99_900), with_consumer(99_800))
    ((_, reason, message),) = found
    assert reason is Reason.JS_CONSUMER_LAG
    assert "needs 166 min" in message


def test_a_consumer_that_keeps_up_is_fine() -> None:
    assert told(with_consumer(1000), with_consumer(500), with_consumer(100)) == []


def test_a_consumer_that_falls_behind_for_long_is_told_with_its_pace() -> None:
    rounds = [with_consumer(100 + 10 * number) for number in range(60)]
    assert told(*rounds) == []
    ((_, reason, message),) = told(*rounds, with_consumer(700))
    assert reason is Reason.JS_CONSUMER_LAG
    assert "falls behind by 60 messages a minute, for 10 min now (limit 10m), and 700 wait" in message


def test_a_consumer_that_caught_up_once_begins_anew() -> None:
    rounds = [with_consumer(100 + 10 * number) for number in range(40)]
    assert told(*rounds, with_consumer(0), *rounds) == []


def test_a_consumer_that_has_not_acknowledged_for_long_while_messages_wait_is_told() -> None:
    old = Position(stream_seq=1, last_active="2020-01-01T00:00:00Z")
    ((_, reason, message),) = told(with_consumer(5, ack_floor=old, num_ack_pending=1))
    assert reason is Reason.JS_CONSUMER_STALLED
    assert "last acknowledged a message" in message
    assert told(with_consumer(0, ack_floor=old, num_ack_pending=1)) == []


def test_a_stalled_consumer_recovers_when_it_acknowledges() -> None:
    full = ConsumerConfig(max_ack_pending=2)
    rounds = [with_consumer(5, num_ack_pending=2, config=full) for _ in range(8)]
    moved = with_consumer(4, num_ack_pending=2, ack_floor=Position(stream_seq=3), config=full)
    assert Reason.JS_CONSUMER_STALLED in {one[1] for one in told(*rounds)}
    assert told(*rounds, moved) == []


@pytest.mark.parametrize(
    ("alive", "expected", "jetstream", "reason", "state"),
    [
        (3, 3, True, None, None),
        (2, 3, True, Reason.JS_REDUNDANCY_LOST, State.DEGRADED),
        (1, 3, True, Reason.JS_NO_QUORUM, State.DOWN),
        (4, 5, True, Reason.NATS_CLUSTER_SIZE, State.DEGRADED),
        (2, 5, True, Reason.JS_NO_QUORUM, State.DOWN),
        (1, 3, False, Reason.NATS_CLUSTER_SIZE, State.DEGRADED),
    ],
)
def test_a_cluster_is_as_strong_as_its_quorum(
    alive: int, expected: int, reason: Reason | None, state: State | None, *, jetstream: bool
) -> None:
    found = list(cluster.size(alive=alive, expected=expected, lost="n3", jetstream=jetstream))
    assert [(one.reason, one.state) for one in found] == ([] if reason is None else [(reason, state)])


def test_only_the_meta_leader_is_asked_about_its_peers() -> None:
    silent = Group(leader="n1", replicas=(Peer(name="n3", active=40_000_000_000),))
    found = list(cluster.peers({"n1": Jsz(meta_cluster=silent), "n2": Jsz(meta_cluster=silent)}, LIMITS))
    assert [one.reason for one in found] == [Reason.JS_PEER_LAG]
    assert "has not heard n3 for 40 s" in found[0].message


def test_pooled_routes_are_counted_by_peer() -> None:
    routes = tuple(cluster.Route(remote_name=name) for name in ("n2", "n2", "n3", "n3"))
    assert cluster.Routez(server_name="n1", routes=routes).names() == {"n1", "n2", "n3"}


def test_an_account_near_its_limit_is_told() -> None:
    info = AccountInfo(storage=95, limits=Limits(max_storage=100))
    ((problem),) = storage.judge_account(info, LIMITS, monitored=False)
    assert problem.reason is Reason.JS_ACCOUNT_LIMIT
    assert "95% of its JetStream storage" in problem.message


def test_several_servers_are_read_from_one_url() -> None:
    places = parse_urls(Secret("nats://u:p@a:4222,tls://b,token@c:1"))
    assert [(one.shown, one.tls, one.user, bool(one.token)) for one in places] == [
        ("a:4222", False, "u", False),
        ("b:4222", True, "", False),
        ("c:1", False, "", True),
    ]


def test_a_wrong_scheme_says_so_and_no_password() -> None:
    with pytest.raises(ValueError, match="nats://") as raised:
        parse_urls(Secret("http://u:secret@a"))
    assert "secret" not in str(raised.value)


def nkey(folder: Path) -> tuple[Path, str]:
    """A file with a user's seed, and the public key a server is told."""
    raw = bytes([18 << 3 | 20 >> 2, (20 & 3) << 6]) + bytes(range(32))
    seed = base64.b32encode(raw + b"\0\0").rstrip(b"=").decode()
    file = folder / "user.nk"
    file.write_text(seed)
    return file, read_credentials(str(file)).public_key()


async def test_a_real_server_lets_the_agent_in_by_nkey(tmp_path: Path) -> None:
    file, public = nkey(tmp_path)
    config = f"authorization: {{users: [{{nkey: {public}}}]}}"
    async with private_nats(tmp_path, extra_config=config) as server:
        url = Secret(f"nats://127.0.0.1:{server.port}")
        found = await look_once("nats", NatsOptions(url=url, credentials_file=str(file)))
        stranger = await look_once("nats", NatsOptions(url=url))
    assert (found.state, stranger.reason) == (State.UP, Reason.NATS_AUTH_FAILED)


def test_a_file_without_a_seed_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "none"
    file.write_text("hello")
    with pytest.raises(ValueError, match=r"neither a \.creds pair"):
        read_credentials(str(file))
