"""What looks, alerts and the agent become on /metrics."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from itertools import pairwise

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from agent.board import Board, Row
from agent.exposition import docs
from agent.exposition.agent_series import AgentSeries
from agent.exposition.document import Document
from agent.exposition.metrics import METRICS
from agent.exposition.negotiation import Format
from agent.exposition.target_series import TargetSeries
from agent.prober import Look
from agent.telemetry.red import RedView
from agent.web.source import ActiveAlert, AgentPart, AgentStatus, Change
from alerts.machine import Phase as AlertPhase
from alerts.machine import Step
from alerts.rule import Severity
from alerts.view import Transition
from checks.catalog import MeasureInfo
from checks.finding import Finding, Measure, Phase, PhaseTime, State
from checks.observation import Observation
from checks.reason import Reason
from checks.target import Kind, Target, TargetKey
from checks.verdict import ConfirmPolicy, Verdict, step

KEY = TargetKey(env="production", service="auth", check="http", vantage="local")
TARGET = Target(key=KEY, kind=Kind.SERVICE, address="http://auth/health")
INFO = (
    MeasureInfo(name="probe_http_status_code", type="gauge", help="Status."),
    MeasureInfo(name="gaia_postgres_backends", type="gauge", help="Backends.", labels=("state",)),
    MeasureInfo(name="gaia_machine_start_seconds", type="histogram", help="Starts."),
)
UP = Finding(state=State.UP, reason=Reason.OK, message="fine", latency_s=0.5)


class Watched:
    """One target on a board, with its series."""

    def __init__(self, *, edges_s: tuple[float, ...] = ()) -> None:
        self.document = Document(metric.family for metric in METRICS)
        self.series = TargetSeries(self.document, INFO, edges_s=edges_s)
        self.board = Board()
        self.board.place({KEY: Row(target=TARGET, interval_s=10, slower_than_s=2.0)})
        self.at_s = 1000.0

    def look(self, finding: Finding, *, missed: int = 0) -> None:
        self.at_s += 10
        observation = Observation(target=TARGET, at_s=self.at_s, duration_s=0.25, finding=finding)
        row = self.board.row(KEY)
        assert row is not None
        before: Verdict = row.verdict
        verdict, _ = step(before, observation, ConfirmPolicy())
        self.board.record(observation, verdict)
        self.series.looked(
            Look(row=row, observation=observation, before=before, verdict=verdict, lag_s=0.001, missed=missed)
        )

    def samples(self, name: str) -> dict[str, float]:
        """Values by the labels beside the target's four."""
        return samples(self.document, name, {"env", "service", "check", "vantage"})


def samples(document: Document, name: str, without: AbstractSet[str] = frozenset()) -> dict[str, float]:
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(b"".join(document.render(Format.TEXT)).decode()):
        for sample in family.samples:
            if sample.name == name:
                labels = sorted(
                    (label, value) for label, value in sample.labels.items() if label not in without
                )
                found[",".join(f"{label}={value}" for label, value in labels)] = sample.value
    return found


def test_a_look_is_counted_timed_and_its_state_is_one_hot() -> None:
    watched = Watched()
    watched.look(UP)
    watched.look(UP, missed=2)
    assert watched.samples("probe_success") == {"": 1}
    assert watched.samples("probe_duration_seconds") == {"": 0.25}
    assert watched.samples("gaia_target_state") == {
        "state=up": 1, "state=degraded": 0, "state=down": 0, "state=asleep": 0,
        "state=starting": 0, "state=unknown": 0,
    }  # fmt: skip
    assert watched.samples("gaia_target_reason") == {"reason=ok": 1}
    assert watched.samples("gaia_target_info") == {"kind=service": 1}
    assert watched.samples("gaia_probe_runs_total") == {"reason=ok,result=up": 2}
    assert watched.samples("gaia_probe_last_run_timestamp_seconds") == {"": 1020}
    assert watched.samples("gaia_target_since_timestamp_seconds") == {"": 1010}
    assert watched.samples("gaia_probe_missed_total") == {"": 2}


def test_the_histogram_is_cumulative_and_has_every_threshold_as_an_edge() -> None:
    watched = Watched(edges_s=(0.3, 2.0, 7.0))
    for latency_s in (0.2, 0.3, 1.9, 2.0, 2.1, 100.0):
        watched.look(Finding(state=State.UP, reason=Reason.OK, message="", latency_s=latency_s))
    buckets = watched.samples("gaia_probe_latency_seconds_bucket")
    assert (buckets["le=0.3"], buckets["le=2.0"], buckets["le=7.0"], buckets["le=+Inf"]) == (2, 4, 5, 6)
    assert all(low <= high for low, high in pairwise(buckets.values()))
    assert watched.samples("gaia_probe_latency_seconds_count") == {"": 6}
    assert watched.samples("gaia_probe_latency_seconds_sum") == {"": 106.5}


def test_what_was_not_measured_is_absent_never_zero() -> None:
    watched = Watched()
    asleep = Finding(state=State.ASLEEP, reason=Reason.ASLEEP, message="stopped on purpose")
    measured = Finding(
        state=State.UP, reason=Reason.OK, message="", latency_s=0.1,
        phases=(PhaseTime(phase=Phase.PROCESSING, duration_s=0.1),),
        measures=(
            Measure(name="probe_http_status_code", value=200),
            Measure(name="gaia_postgres_backends", value=3, labels=(("state", "active"),)),
            Measure(name="gaia_postgres_backends", value=9, labels=(("state", "idle"),)),
        ),
    )  # fmt: skip
    watched.look(measured)
    assert watched.samples("probe_http_duration_seconds") == {"phase=processing": 0.1}
    assert watched.samples("gaia_postgres_backends") == {"state=active": 3, "state=idle": 9}
    watched.look(asleep)
    for name in (
        "probe_success",
        "probe_http_duration_seconds",
        "probe_http_status_code",
        "gaia_postgres_backends",
    ):
        assert watched.samples(name) == {}
    assert watched.samples("gaia_target_state")["state=asleep"] == 1


def test_a_histogram_that_a_check_measures_is_one_family_and_leaves_whole() -> None:
    watched = Watched()
    parts = (
        Measure(name="gaia_machine_start_seconds_bucket", value=1, labels=(("le", "2.0"),)),
        Measure(name="gaia_machine_start_seconds_bucket", value=3, labels=(("le", "+Inf"),)),
        Measure(name="gaia_machine_start_seconds_count", value=3),
        Measure(name="gaia_machine_start_seconds_sum", value=9.5),
    )
    watched.look(Finding(state=State.UP, reason=Reason.OK, message="", measures=parts))
    assert watched.samples("gaia_machine_start_seconds_bucket") == {"le=2.0": 1, "le=+Inf": 3}
    assert watched.samples("gaia_machine_start_seconds_count") == {"": 3}
    assert watched.samples("gaia_machine_start_seconds_sum") == {"": 9.5}
    text = b"".join(watched.document.render(Format.TEXT)).decode()
    assert "# TYPE gaia_machine_start_seconds histogram" in text
    watched.look(Finding(state=State.UP, reason=Reason.OK, message=""))
    assert watched.samples("gaia_machine_start_seconds_bucket") == {}


def test_a_measure_that_no_kind_declares_is_left_out() -> None:
    watched = Watched()
    watched.look(
        Finding(state=State.UP, reason=Reason.OK, message="", measures=(Measure(name="surprise", value=1),))
    )
    assert watched.samples("surprise") == {}
    assert watched.samples("probe_success") == {"": 1}


def test_a_target_nobody_looks_at_any_more_turns_unknown_and_a_removed_one_leaves() -> None:
    watched = Watched()
    watched.look(UP)
    watched.series.aged(watched.at_s + 100)
    assert watched.samples("gaia_target_state")["state=unknown"] == 1
    assert watched.samples("gaia_target_reason") == {"reason=stale": 1}
    watched.look(UP)
    watched.series.aged(watched.at_s + 1)
    assert watched.samples("gaia_target_reason") == {"reason=ok": 1}
    watched.series.place(())
    assert watched.document.series == 0


FINDINGS = st.builds(
    Finding,
    state=st.sampled_from(State),
    reason=st.sampled_from([Reason.OK, Reason.TIMEOUT, Reason.ASLEEP]),
    message=st.just(""),
    latency_s=st.none() | st.floats(0, 20),
    phases=st.lists(st.sampled_from(Phase), unique=True).map(
        lambda phases: tuple(PhaseTime(phase=phase, duration_s=0.1) for phase in phases)
    ),
    measures=st.lists(
        st.builds(
            Measure,
            name=st.sampled_from([*(info.name for info in INFO), "surprise"]),
            value=st.floats(allow_nan=True),
            labels=st.sampled_from([(), (("state", "idle"),), (("state", "active"),)]),
        ),
        max_size=5,
    ).map(tuple),
)


@given(st.lists(FINDINGS, max_size=8))
def test_the_number_of_series_is_what_a_scrape_gets_whatever_was_found(findings: list[Finding]) -> None:
    watched = Watched()
    for finding in findings:
        watched.look(finding)
        text = b"".join(watched.document.render(Format.TEXT)).decode()
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        assert len(lines) == watched.document.series
        assert len({line.rsplit(" ", 1)[0] for line in lines}) == len(lines)
    watched.series.place(())
    assert watched.document.series == 0


def test_a_reload_changes_what_the_file_says_of_a_target_and_keeps_what_was_counted() -> None:
    watched = Watched()
    watched.look(UP)
    watched.board.place({KEY: Row(target=TARGET, interval_s=30, slower_than_s=5.0)})
    watched.series.place(watched.board.rows())
    assert watched.samples("gaia_probe_interval_seconds") == {"": 30}
    assert watched.samples("gaia_target_slower_than_seconds") == {"": 5}
    assert watched.samples("gaia_probe_latency_seconds_count") == {"": 1}
    assert watched.samples("gaia_target_state")["state=up"] == 1


def test_a_measure_declared_later_is_shown_from_then_on() -> None:
    watched = Watched()
    watched.look(
        Finding(state=State.UP, reason=Reason.OK, message="", measures=(Measure(name="late", value=7),))
    )
    assert watched.samples("late") == {}
    watched.series.declare([MeasureInfo(name="late", type="gauge", help="")])
    assert watched.samples("late") == {"": 7}


def test_looks_taken_while_a_scrape_is_written_break_nothing() -> None:
    watched = Watched()
    measured = Finding(
        state=State.UP, reason=Reason.OK, message="", measures=(Measure(name=INFO[0].name, value=200),)
    )
    watched.look(measured)
    chunks = watched.document.render(Format.TEXT)
    lines = watched.series.lines(INFO[0].name, Format.TEXT)
    watched.look(UP)
    assert list(lines) == []
    assert b"".join(chunks).count(b"gaia_target_info{") == 1


def test_alerts_are_there_while_active_and_each_environment_has_its_zeros() -> None:
    document = Document(metric.family for metric in METRICS)
    series = AgentSeries(document)
    alert = ActiveAlert(
        id="1", name="down", env="production", service="auth", severity="page", state="firing", since_s=5,
        title="", summary="", fired_s=5, check="http",
    )  # fmt: skip
    series.alerts((alert,), ("production", "staging"))
    assert samples(document, "gaia_alert_state") == {
        "alertname=down,alertstate=firing,check=http,env=production,service=auth,severity=page": 1
    }
    assert samples(document, "gaia_alerts")["alertstate=firing,env=production"] == 1
    assert samples(document, "gaia_alerts")["alertstate=firing,env=staging"] == 0
    series.alerts((), ("production",))
    assert samples(document, "gaia_alert_state") == {}
    assert samples(document, "gaia_alerts") == {
        f"alertstate={state},env=production": 0 for state in ("pending", "firing", "recovering")
    }


def test_every_change_of_an_alert_is_counted_its_end_too() -> None:
    document = Document(metric.family for metric in METRICS)
    series = AgentSeries(document)
    fired = Transition(
        at_s=5.0, alertname="down", component="auth", fingerprint="1", episode="e", labels={},
        severity=Severity.PAGE, before=AlertPhase.PENDING, after=AlertPhase.FIRING, what=Step.FIRED, text="",
    )  # fmt: skip
    resolved = msgspec.structs.replace(
        fired, before=AlertPhase.RECOVERING, after=AlertPhase.OK, what=Step.RESOLVED
    )
    for transition in (fired, resolved, fired):
        series.transition(transition, "production")
    assert samples(document, "gaia_alert_transitions_total") == {
        "alertname=down,env=production,service=auth,to=fired": 2,
        "alertname=down,env=production,service=auth,to=resolved": 1,
    }


def test_traffic_deploys_and_the_agent_itself() -> None:
    document = Document(metric.family for metric in METRICS)
    series = AgentSeries(document)
    red = RedView(
        service="auth", requests_per_s=2.0, error_ratio=None, p95_s=0.2, slow_ratio=0.0, window_s=300
    )
    series.traffic({("production", "auth"): red})
    series.deploys(
        Change(at_s=at_s, env="production", service="auth", kind="deploy", text="") for at_s in (20.0, 10.0)
    )
    status = AgentStatus(
        version="1", started_s=5, ready=True, config_hash="x", config_loaded_s=6, undelivered=2,
        parts=(AgentPart(name="history", state=State.DOWN, text="disk full"),),
    )  # fmt: skip
    series.agent(status, "gaia", {"production": 7})
    assert samples(document, "gaia_service_requests_per_second") == {"env=production,service=auth": 2}
    assert samples(document, "gaia_service_error_ratio") == {}
    assert samples(document, "gaia_last_deploy_timestamp_seconds") == {"env=production,service=auth": 20}
    assert samples(document, "gaia_agent_part_up") == {"part=history": 0}
    assert samples(document, "gaia_agent_undelivered") == {"": 2}
    assert samples(document, "gaia_agent_targets") == {"env=production": 7}
    assert samples(document, "process_resident_memory_bytes")[""] > 1e6
    series.traffic({})
    assert samples(document, "gaia_service_requests_per_second") == {}


def test_the_page_of_metrics_is_what_the_code_declares() -> None:
    assert docs.PAGE.read_text(encoding="utf-8") == docs.text(), "run python -m agent.exposition.docs"


def test_no_metric_is_declared_twice_and_every_target_metric_has_the_four_labels() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert metric.name.endswith("_total") == (metric.type == "counter"), metric.name
        if {"check", "vantage"} & set(metric.labels) and metric.name.startswith(
            ("probe_", "gaia_probe", "gaia_t")
        ):
            assert metric.labels[:4] == ("env", "service", "check", "vantage")
