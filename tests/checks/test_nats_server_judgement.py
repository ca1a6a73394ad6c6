"""What a server's own numbers, its neighbours and its accounts mean, from readings made up for it."""

from __future__ import annotations

import msgspec
import pytest

from checks.finding import State
from checks.nats import judge_server, neighbours, own_limits
from checks.nats.accounts import Accounts, Accstatz
from checks.nats.jetstream import (
    Consumer,
    ConsumerConfig,
    Group,
    Jsz,
    Peer,
    Position,
    Source,
    Stream,
    StreamConfig,
    StreamState,
)
from checks.nats.neighbours import Gatewayz, Leafz
from checks.nats.server import Closed, Server, Varz
from checks.nats.thresholds import Thresholds, effective
from checks.nats.traffic import Rates
from checks.reason import Reason

LIMITS = effective("production", "auto", Thresholds())
NOW_S = 1_800_000_000.0
NOW = "2027-01-15T08:00:00Z"
_MB = 2**20


def server(at_s: float = 10.0, *, closed: tuple[Closed, ...] = (), **varz: object) -> Server:
    seen = Varz(server_id="S", now=NOW, cores=2, **varz)  # type: ignore[arg-type]
    return Server(varz=seen, at_s=at_s, wall_s=NOW_S, closed=closed)


def told(now: Server, before: Server | None = None, **more: int) -> list[tuple[Reason, bool, str]]:
    problems = judge_server.judge(now, before, LIMITS, shown="n1", machine_bytes=more.get("machine_bytes"))
    return [(one.reason, one.urgent, one.message) for one in problems]


def test_memory_is_judged_by_the_machine_it_has() -> None:
    ((reason, urgent, message),) = told(server(mem=470 * _MB), machine_bytes=512 * _MB)
    assert (reason, urgent) == (Reason.NATS_MEMORY, True)
    assert "n1 uses 470 of 512 MB memory (92%, limit 90%)" in message


def test_memory_is_judged_by_the_servers_own_limit_where_it_is_tighter() -> None:
    ((reason, urgent, _),) = told(server(mem=80 * _MB, gomemlimit=100 * _MB), machine_bytes=512 * _MB)
    assert (reason, urgent) == (Reason.NATS_MEMORY, False)


@pytest.mark.parametrize("gomemlimit", [0, 2**63 - 1])
def test_memory_without_any_limit_is_recorded_and_not_judged(gomemlimit: int) -> None:
    assert told(server(mem=10_000 * _MB, gomemlimit=gomemlimit)) == []


def test_a_busy_cpu_is_told_after_two_looks_in_a_row() -> None:
    calm, busy = server(cpu=20.0), server(20.0, cpu=195.0)
    assert told(busy, calm) == []
    ((reason, urgent, message),) = told(server(30.0, cpu=190.0), busy)
    assert (reason, urgent) == (Reason.NATS_CPU, True)
    assert "2 CPUs 95% busy" in message


def test_cpu_is_of_what_the_server_may_use_not_of_the_machine() -> None:
    ((reason, _, _),) = told(server(20.0, cpu=95.0, gomaxprocs=1), server(cpu=95.0, gomaxprocs=1))
    assert reason is Reason.NATS_CPU


def test_clients_turned_away_are_counted_since_the_last_look_and_named() -> None:
    old = Closed(name="old", reason="Authentication Failure", stop="2027-01-15T07:59:00Z")
    new = Closed(name="cron", reason="Authentication Failure", stop="2027-01-15T08:00:03Z")
    gone = Closed(name="fine", reason="Client Closed", stop="2027-01-15T08:00:04Z")
    ((reason, _, message),) = told(server(20.0, closed=(gone, *(new,) * 6, old)), server())
    assert reason is Reason.NATS_CLIENTS_REJECTED
    assert "turned 6 clients away" in message
    assert "cron" in message
    assert "old" not in message


def test_another_configuration_is_an_event() -> None:
    before = server(config_digest="sha256:1")
    ((reason, _, message),) = told(server(20.0, config_digest="sha256:2"), before)
    assert reason is Reason.NATS_RESTARTED
    assert "another configuration" in message


def test_a_missing_leaf_node_is_named_wherever_the_others_are_connected() -> None:
    leafz = {
        "n1": Leafz(leafs=(neighbours.Leaf(name="fra"),)),
        "n2": Leafz(leafs=(neighbours.Leaf(name="iad"),)),
    }
    (problem,) = neighbours.leaf_nodes(("fra", "iad", "syd"), leafz)
    assert (problem.state, problem.reason) == (State.DEGRADED, Reason.NATS_LEAF_MISSING)
    assert "1 of 3 leaf nodes are not connected (syd)" in problem.message


def test_a_gateway_is_missing_from_each_server_on_its_own() -> None:
    there = msgspec.Raw(b"{}")
    gates = {"n1": Gatewayz(name="east", outbound_gateways={"west": there}), "n2": Gatewayz(name="east")}
    (problem,) = neighbours.gateways(("west", "east"), gates)
    assert problem.reason is Reason.NATS_GATEWAY_MISSING
    assert "no gateway to cluster west from n2" in problem.message


def test_what_no_server_told_of_its_neighbours_is_not_missing() -> None:
    assert list(neighbours.leaf_nodes(("fra",), {})) == []
    assert list(neighbours.gateways(("west",), {})) == []


def accounts(connections: int, storage: int, *, reserved: int) -> Accounts:
    statz = msgspec.convert({"account_statz": [{"acc": "dev_ada", "conns": connections}]}, type=Accstatz)
    account = {"name": "dev_ada", "storage": storage, "reserved_storage": reserved}
    return Accounts([statz, statz], [msgspec.convert({"account_details": [account]}, type=Jsz)] * 2)


def test_an_accounts_connections_are_summed_over_servers_and_its_storage_is_not() -> None:
    seen = accounts(23, 95 * _MB, reserved=100 * _MB)
    problems = list(seen.judge(LIMITS, connections=50))
    assert [(one.reason, one.urgent) for one in problems] == [
        (Reason.NATS_ACCOUNT_LIMIT, True),
        (Reason.JS_ACCOUNT_LIMIT, True),
    ]
    assert "account dev_ada uses 46 of its 50 connections (92%, limit 90%)" in problems[0].message
    assert "95 of its 100 MB of JetStream storage" in problems[1].message
    values = {one.name: one.value for one in seen.measures()}
    assert values["gaia_nats_account_connections"] == 46
    assert values["gaia_nats_account_storage_bytes"] == 95 * _MB


def test_an_account_without_limits_is_recorded_and_not_judged() -> None:
    seen = accounts(5000, 10**12, reserved=2**64 - 1)
    assert list(seen.judge(LIMITS, connections=None)) == []


def stream_told(metadata: dict[str, str], **more: object) -> list[tuple[Reason, str]]:
    prefixed = {f"io.nats.monitor.{key}": value for key, value in metadata.items()}
    stream = Stream(
        name="S",
        config=StreamConfig(num_replicas=3, metadata=prefixed),
        state=StreamState(messages=10, num_subjects=4),
        cluster=Group(leader="n1", replicas=(Peer(name="n2", active=4_000_000_000, lag=7), Peer(name="n3"))),
        sources=(Source(name="ORIGIN", lag=30, active=90_000_000_000),),
    )
    stream = msgspec.structs.replace(stream, **more)
    return [(one.reason, one.message) for one in own_limits.judge_stream(stream, "S")]


@pytest.mark.parametrize(
    ("metadata", "reason", "words"),
    [
        ({"msgs-warn": "10"}, Reason.JS_STREAM_EMPTY, "holds only 10 messages (its own limit"),
        ({"msgs-warn": "90", "msgs-critical": "20"}, Reason.JS_STREAM_EMPTY, "limit msgs-critical is 20"),
        ({"subjects-warn": "3", "subjects-critical": "9"}, Reason.JS_STORAGE_HIGH, "has 4 subjects"),
        ({"subjects-warn": "9", "subjects-critical": "5"}, Reason.JS_STREAM_EMPTY, "subjects-critical is 5"),
        ({"lag-critical": "30"}, Reason.JS_PEER_LAG, "is 30 messages behind ORIGIN (its own limit 30)"),
        ({"seen-critical": "1m"}, Reason.JS_PEER_LAG, "not heard ORIGIN for 90 s (its own limit 60 s)"),
        ({"min-sources": "2"}, Reason.JS_PEER_LAG, "has 1 sources"),
        ({"peer-expect": "5"}, Reason.JS_REDUNDANCY_LOST, "has 3 peers (its own limit peer-expect is 5)"),
        ({"peer-lag-critical": "7"}, Reason.JS_PEER_LAG, "replica n2 that is 7 operations behind"),
        ({"peer-seen-critical": "3s"}, Reason.JS_PEER_LAG, "not heard its replica n2 for 4 s"),
        ({"lag-critical": "many"}, Reason.CONFIG, 'lag-critical "many", which is not a number'),
        ({"seen-critical": "soon"}, Reason.CONFIG, "is not a duration such as 5m"),
    ],
)  # fmt: skip
def test_a_streams_own_limits_are_honoured(metadata: dict[str, str], reason: Reason, words: str) -> None:
    ((found, message),) = stream_told(metadata)
    assert found is reason
    assert words in message


def test_more_sources_than_a_stream_says_are_told() -> None:
    sources = (Source(name="A"), Source(name="B"))
    ((reason, message),) = stream_told({"max-sources": "1"}, sources=sources)
    assert reason is Reason.JS_PEER_LAG
    assert "has 2 sources (its own limits: at least 0, at most 1)" in message


@pytest.mark.parametrize(
    "metadata",
    [
        {"msgs-warn": "9", "msgs-critical": "5"},
        {"subjects-warn": "5", "subjects-critical": "9"},
        {"lag-critical": "31", "seen-critical": "2m", "min-sources": "1", "peer-expect": "3"},
        {"lag-critical": "0", "msgs-critical": "0"},
        {"enabled": "false", "lag-critical": "1"},
    ],
)
def test_a_stream_within_its_own_limits_is_fine(metadata: dict[str, str]) -> None:
    assert stream_told(metadata) == []


@pytest.mark.parametrize(
    ("metadata", "reason", "words"),
    [
        ({"outstanding-ack-critical": "3"}, Reason.JS_CONSUMER_STALLED, "has 3 unacknowledged messages"),
        ({"waiting-critical": "2"}, Reason.JS_CONSUMER_STALLED, "has 2 waiting pulls"),
        ({"unprocessed-critical": "9"}, Reason.JS_CONSUMER_LAG, "has 9 messages waiting (its own limit 9)"),
        ({"redelivery-critical": "1"}, Reason.JS_POISON_MESSAGES, "has 1 redelivered messages"),
        ({"last-delivery-critical": "30s"}, Reason.JS_CONSUMER_STALLED, "last given a message 60 s ago"),
        ({"last-ack-critical": "5m"}, Reason.JS_CONSUMER_STALLED, "never acknowledged a message"),
    ],
)
def test_a_consumers_own_limits_are_honoured(metadata: dict[str, str], reason: Reason, words: str) -> None:
    prefixed = {f"io.nats.monitor.{key}": value for key, value in metadata.items()}
    consumer = Consumer(
        name="worker",
        config=ConsumerConfig(metadata=prefixed),
        delivered=Position(last_active="2027-01-15T07:59:00Z"),
        num_ack_pending=3,
        num_waiting=2,
        num_pending=9,
        num_redelivered=1,
    )
    (problem,) = own_limits.judge_consumer(consumer, "consumer worker", NOW_S)
    assert (problem.reason, problem.urgent) == (reason, True)
    assert words in problem.message


class Traffic:
    """A server asked every ten seconds, whose messages come at a rate."""

    def __init__(self) -> None:
        self.rates = Rates(LIMITS)
        self.seen = server(0.0)

    def run(self, seconds: int, rate: int) -> list[str]:
        said: list[str] = []
        for _ in range(seconds // 10):
            now = server(self.seen.at_s + 10, in_msgs=self.seen.varz.in_msgs + rate * 10)
            said += [one.message for one in self.rates.judge(now, self.seen, shown="n1")]
            self.seen = now
        return said


def test_messages_that_stop_are_told_after_a_minute_with_what_is_usual() -> None:
    traffic = Traffic()
    assert traffic.run(1200, 100) == []
    assert traffic.run(50, 0) == []
    (message,) = traffic.run(10, 0)
    assert "takes in 0.0 messages a second instead of 100" in message
    assert traffic.run(10, 100) == []


def test_a_rate_that_fades_slowly_or_was_never_high_is_no_news() -> None:
    traffic = Traffic()
    assert traffic.run(1200, 10) == traffic.run(1200, 0) == []
    traffic = Traffic()
    for rate in range(200, 0, -10):
        assert traffic.run(600, rate) == []


def test_a_usual_rate_is_not_unlearned_while_the_messages_are_gone() -> None:
    traffic = Traffic()
    traffic.run(1200, 100)
    assert "instead of 100" in traffic.run(7200, 0)[-1]
