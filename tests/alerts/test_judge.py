"""From fault to notice: what is told, once, with its cause; what is not; and what survives."""

from __future__ import annotations

from pathlib import Path

import pytest

from alerts.external import ExternalAlert
from alerts.instance import fingerprint
from alerts.machine import Phase, Step
from alerts.notice import NoticeKind
from alerts.plan import Graph, JudgePlan
from alerts.receiver import Console, EscalationStep, MaintenanceWindow, Receiver
from alerts.roster import Roster
from alerts.rule import (
    DEFAULT_POLICIES,
    DEFAULT_RULES,
    MeasureRule,
    Severity,
    TargetStateRule,
    in_force,
)
from alerts.silence import Silence, parse_matchers
from alerts.story import Change
from checks.finding import Claim, Measure, State
from checks.reason import Reason
from checks.units import Duration
from checks.wire.expiry import moment
from tests.alerts.world import START_S, World, plan

DOWN_ONLY = {
    name: DEFAULT_RULES[name] for name in ("service_down", "database_down", "broker_down", "slow_probes")
}


@pytest.fixture
def world() -> World:
    made = World()
    made.pass_s(30)
    assert made.told() == []
    return made


def test_a_killed_database_is_told_at_once_with_the_services_it_affects(world: World) -> None:
    fault_s = world.now_s
    world.kill("postgres")
    assert world.said() == ["trigger database_down postgres"]
    notice = world.told()[0]
    assert notice.at_s - fault_s <= 0.25
    assert notice.affected == ("asset", "auth", "chat", "gateway")
    assert notice.title.startswith("PROD · postgres cannot be used: nobody listens on its port")
    assert len(notice.sms) <= 160


def test_dependents_of_a_dead_database_are_listed_and_never_told(world: World) -> None:
    world.kill("postgres")
    for service in ("auth", "asset", "chat", "gateway"):
        world.fail(service)
    world.pass_s(120)
    assert world.said() == ["trigger database_down postgres"]
    root = world.alert("database_down", "postgres")
    assert {world.alert("service_down", name).inhibited_by for name in ("auth", "asset", "chat")} == {
        root.episode
    }
    assert world.alert("service_down", "auth").state is Phase.FIRING


def test_dependents_that_fail_first_wait_until_their_cause_is_known(world: World) -> None:
    world.fail("auth")
    assert world.said() == []
    assert world.alert("service_down", "auth").held.startswith("waiting for a look at")
    assert {key.service for key in world.judge.suspects()} == {"postgres", "nats"}
    world.kill("postgres")
    world.pass_s(30)
    assert world.said() == ["trigger database_down postgres"]


def test_a_service_that_fails_alone_is_told_once_its_causes_were_seen_well(world: World) -> None:
    world.fail("auth")
    world.look("postgres")
    world.look("nats")
    world.pass_s(1, looks=False)
    assert world.said() == ["trigger service_down auth"]


def test_hard_evidence_about_a_service_itself_does_not_wait_for_its_causes(world: World) -> None:
    world.kill("auth")
    assert world.said() == ["trigger service_down auth"]


def test_a_recovered_database_resolves_once_and_its_dependents_quietly(world: World) -> None:
    world.kill("postgres")
    world.fail("auth")
    world.pass_s(60)
    world.heal("postgres")
    world.pass_s(5)
    world.heal("auth")
    world.pass_s(400)
    assert world.said() == ["trigger database_down postgres", "resolve database_down postgres"]
    resolve = world.told(NoticeKind.RESOLVE)[0]
    assert resolve.ended == "recovered"
    assert resolve.episode == world.told()[0].episode


def test_a_dependent_that_stays_bad_after_its_cause_ended_is_told_after_a_while(world: World) -> None:
    world.kill("postgres")
    world.fail("auth")
    world.pass_s(30)
    world.heal("postgres")
    world.pass_s(15)
    assert world.said()[-1] == "resolve database_down postgres"
    world.pass_s(30)
    assert world.said()[-1] == "trigger service_down auth"


def test_a_second_fire_is_a_second_episode(world: World) -> None:
    world.kill("postgres")
    world.heal("postgres")
    world.pass_s(60)
    world.kill("postgres")
    assert world.said() == [
        "trigger database_down postgres",
        "resolve database_down postgres",
        "trigger database_down postgres",
    ]
    triggers = world.told(NoticeKind.TRIGGER)
    assert triggers[0].episode != triggers[1].episode


def test_no_data_never_resolves_and_says_that_it_cannot_see(world: World) -> None:
    world.kill("postgres")
    world.pass_s(3600, looks=False)
    assert [kind for kind in world.said() if kind.startswith("resolve")] == []
    view = world.alert("database_down", "postgres")
    assert (view.state, view.unknown) == (Phase.FIRING, "stale")
    assert view.evidence == "nobody listens on its port"


def test_silence_of_a_source_is_one_alert_per_source_and_not_down(world: World) -> None:
    world.pass_s(90, looks=False)
    no_data = [one for one in world.judge.active() if one.alertname == "no_data"]
    assert len(no_data) == 6
    assert not [one for one in world.judge.active() if one.alertname != "no_data"]
    assert all("does not mean that it is down" in one.evidence for one in no_data)


def test_asleep_is_not_down(world: World) -> None:
    for _ in range(5):
        world.look("auth", State.ASLEEP, Reason.ASLEEP)
        world.pass_s(10, looks=False)
    assert "service_down auth" not in world.states()
    assert world.said() == []


def test_a_restart_neither_forgets_nor_repeats(tmp_path: Path) -> None:
    world = World(path=tmp_path / "journal.db")
    world.pass_s(20)
    world.kill("postgres")
    world.restart()
    assert world.alert("database_down", "postgres").state is Phase.FIRING
    assert world.alert("database_down", "postgres").unknown == "agent_gap"
    world.pass_s(60)
    assert world.said() == ["trigger database_down postgres"]
    world.heal("postgres")
    world.pass_s(60)
    assert world.said() == ["trigger database_down postgres", "resolve database_down postgres"]


def test_recovery_during_the_downtime_still_resolves(tmp_path: Path) -> None:
    world = World(path=tmp_path / "journal.db")
    world.pass_s(20)
    world.kill("postgres")
    world.down.clear()
    world.restart(after_s=600)
    world.pass_s(60)
    assert world.said() == ["trigger database_down postgres", "resolve database_down postgres"]


def test_what_recovers_long_after_a_restart_recovered_and_did_not_expire(tmp_path: Path) -> None:
    world = World(path=tmp_path / "journal.db")
    world.pass_s(30)
    world.kill("postgres")
    world.restart()
    world.kill("postgres")
    world.pass_s(1200, every_s=10)
    world.heal("postgres")
    world.pass_s(60)
    assert [one.ended for one in world.told(NoticeKind.RESOLVE)] == ["recovered"]


def test_a_rule_removed_while_away_resolves_and_says_so(tmp_path: Path) -> None:
    world = World(path=tmp_path / "journal.db")
    world.pass_s(20)
    world.kill("postgres")
    world.plan = plan({name: rule for name, rule in DOWN_ONLY.items() if name != "database_down"})
    world.restart()
    assert world.said()[-1] == "resolve database_down postgres"
    assert world.told()[-1].ended == "rule_removed"


def test_reload_keeps_what_stays_and_resolves_what_goes(world: World) -> None:
    world.kill("postgres")
    episode = world.alert("database_down", "postgres").episode
    world.judge.reload(plan(DOWN_ONLY), world.now_s)
    assert world.alert("database_down", "postgres").episode == episode
    assert world.said() == ["trigger database_down postgres"]
    transitions = world.judge.reload(plan({}), world.now_s)
    assert [one.what for one in transitions] == [Step.RESOLVED]
    assert world.told()[-1].ended == "rule_removed"


def test_a_changed_for_is_measured_from_when_it_began(world: World) -> None:
    rules = {"service_down": TargetStateRule(for_=Duration(600))}
    world.judge.reload(plan(rules), world.now_s)
    world.fail("auth")
    world.pass_s(120)
    assert world.states() == {"service_down auth": "pending"}
    world.judge.reload(plan({"service_down": TargetStateRule(for_=Duration(60))}), world.now_s)
    world.pass_s(11)
    assert world.states() == {"service_down auth": "firing"}


def test_errors_of_one_service_fire_for_that_service_and_no_other(world: World) -> None:
    for _ in range(36):
        world.requests("asset", 100, 8)
        world.requests("gateway", 300, 8)
        world.requests("auth", 100)
        world.pass_s(10)
    assert world.said() == ["trigger high_error_rate asset"]
    assert "8 % failed = 240 of 3000" in world.told()[0].title or "of" in world.told()[0].title
    for _ in range(30):
        world.requests("asset", 100)
        world.pass_s(10)
    assert world.said()[-1] == "resolve high_error_rate asset"


@pytest.mark.parametrize(
    ("looks_at", "text"),
    [
        ([(State.UP, 3.2)] * 3, "3 of the last 3 looks took over 2s, the slowest 3.20 s"),
        ([(State.DOWN, None)] * 3, "3 of the last 3 looks failed"),
        (
            [(State.UP, 2.5), (State.DOWN, None), (State.UP, 2.1)],
            "2 of the last 3 looks took over 2s, the slowest 2.50 s; 1 failed",
        ),
    ],
    ids=["slow", "failed", "both"],
)
def test_looks_that_failed_are_not_said_to_be_slow(
    looks_at: list[tuple[State, float | None]], text: str
) -> None:
    world = World(plan({"slow_probes": DEFAULT_RULES["slow_probes"]}))
    world.pass_s(40, looks=False)
    for state, latency_s in looks_at:
        world.look("asset", state, latency_s=latency_s)
        world.pass_s(10, looks=False)
    assert world.alert("slow_probes", "asset").evidence == text


def test_slow_answers_are_a_matter_of_chat_until_a_quarter_is_slow(world: World) -> None:
    for _ in range(36):
        world.requests("asset", 100, slow=8)
        world.pass_s(10)
    assert world.said() == ["trigger slow_responses asset"]
    for _ in range(36):
        world.requests("asset", 100, slow=100)
        world.pass_s(10)
    assert world.said() == ["trigger slow_responses asset", "trigger very_slow_responses asset"]


def test_traffic_that_stops_holds_the_alert_until_probes_vouch_for_a_quarter_of_an_hour(world: World) -> None:
    for _ in range(36):
        world.requests("asset", 100, 20)
        world.pass_s(10)
    for _ in range(60):
        world.requests("asset", 0)
        world.pass_s(10)
    assert world.said() == ["trigger high_error_rate asset"]
    for _ in range(160):
        world.requests("asset", 0)
        world.pass_s(10)
    assert world.said()[-1] == "resolve high_error_rate asset"
    assert world.told()[-1].ended == "no_traffic"


def test_development_records_and_never_calls() -> None:
    world = World(plan(in_force(DEFAULT_RULES, DEFAULT_POLICIES["none"])))
    world.pass_s(20)
    world.kill("postgres")
    world.fail("auth")
    world.pass_s(300)
    assert world.told() == []
    assert world.alert("database_down", "postgres").state is Phase.FIRING
    assert world.alert("database_down", "postgres").severity is Severity.LOG


def test_staging_calls_for_a_major_failure_only_and_never_pages() -> None:
    world = World(plan(in_force(DEFAULT_RULES, DEFAULT_POLICIES["basic"])))
    world.pass_s(20)
    world.fail("auth")
    world.pass_s(60)
    world.heal("auth")
    world.pass_s(60)
    assert world.told() == []
    world.kill("postgres")
    world.pass_s(200)
    assert world.said() == ["trigger major_outage postgres"]
    assert world.told()[0].severity is Severity.CHAT


def test_a_silence_keeps_quiet_and_the_resolve_passes_through_it(world: World) -> None:
    world.kill("postgres")
    world.judge.silence(_silence(world, 'service="postgres"'), world.now_s)
    world.heal("postgres")
    world.pass_s(5)
    assert world.said() == ["trigger database_down postgres", "resolve database_down postgres"]
    world.pass_s(60)
    world.kill("postgres")
    world.pass_s(30)
    assert len(world.told()) == 2
    assert world.alert("database_down", "postgres").silenced_by == "s1"


def test_what_still_fires_when_its_silence_ends_is_told(world: World) -> None:
    world.judge.silence(_silence(world, 'service="postgres"', lasts_s=60), world.now_s)
    world.kill("postgres")
    world.pass_s(50)
    assert world.told() == []
    world.pass_s(20)
    assert world.said() == ["trigger database_down postgres"]


def test_silences_survive_a_crash(tmp_path: Path) -> None:
    world = World(path=tmp_path / "journal.db")
    world.judge.silence(_silence(world, 'service="postgres"'), world.now_s)
    world.restart()
    world.pass_s(20)
    world.kill("postgres")
    world.pass_s(30)
    assert world.told() == []


@pytest.mark.parametrize("covers", [True, False])
def test_a_silenced_cause_covers_its_dependents_only_when_asked_to(world: World, *, covers: bool) -> None:
    world.judge.silence(_silence(world, 'service="postgres"', covers=covers), world.now_s)
    world.kill("postgres")
    world.fail("auth")
    world.pass_s(60)
    assert world.said() == ([] if covers else ["trigger service_down auth"])


def test_a_maintenance_window_is_a_silence_by_the_clock() -> None:
    window = MaintenanceWindow(
        cron="0 8 * * *", lasts=Duration(3600), targets=("postgres",), comment="upgrade"
    )
    world = World(plan(maintenance=(window,)))
    assert START_S % 86400 == 8 * 3600
    world.pass_s(20)
    world.kill("postgres")
    world.pass_s(60)
    assert world.told() == []
    assert world.alert("database_down", "postgres").silenced_by == "maintenance: upgrade"


def test_reminders_repeat_until_somebody_acknowledges(world: World) -> None:
    world.judge.reload(
        plan(receivers={"on_call": Receiver(console=Console(), repeat_page=Duration(600))}), world.now_s
    )
    world.kill("postgres")
    world.pass_s(1250)
    assert [one.kind for one in world.told()] == ["trigger", "reminder", "reminder"]
    assert world.judge.ack("database_down", "mira", world.now_s) == (world.told()[0].episode,)
    world.pass_s(1250)
    assert len(world.told()) == 3
    assert world.alert("database_down", "postgres").acked_by == "mira"


def test_escalation_calls_the_next_receiver_and_its_resolve_too() -> None:
    receivers = {
        "first": Receiver(console=Console()),
        "boss": Receiver(console=Console(), severities=()),
    }
    steps = (EscalationStep(receiver="boss", after=Duration(300)),)
    world = World(plan(receivers=receivers, escalation=steps))
    world.pass_s(20)
    world.kill("postgres")
    world.pass_s(290)
    assert [row.channel for row in world.rows] == ["first/console"]
    world.pass_s(20)
    assert [row.channel for row in world.rows] == ["first/console", "boss/console"]
    world.heal("postgres")
    world.pass_s(10)
    assert [(row.channel, row.notice.kind.value) for row in world.rows[2:]] == [
        ("first/console", "resolve"),
        ("boss/console", "resolve"),
    ]


def test_flapping_is_said_once_and_the_episode_stays_open_until_stable(world: World) -> None:
    for _ in range(6):
        world.kill("postgres")
        world.pass_s(30)
        world.heal("postgres")
        world.pass_s(60)
    said = world.said()
    assert said.count("trigger database_down postgres") == 3
    assert said.count("resolve database_down postgres") == 2
    assert said.count("update database_down postgres") == 1
    world.pass_s(1900)
    assert world.said().count("resolve database_down postgres") == 3


def test_a_storm_is_one_message_and_one_end() -> None:
    base = World().plan.targets[0]
    from msgspec.structs import replace

    targets = tuple(replace(base, key=replace(base.key, service=f"svc{number}")) for number in range(1000))
    world = World(plan(DOWN_ONLY, targets=targets, dependencies={}))
    for target in targets:
        world.verdicts[target.key.service] = world.verdicts[target.key.service]
        world.look(target.key.service)
    world.pass_s(10, looks=False)
    for target in targets:
        for _ in range(2):
            world.look(target.key.service, State.DOWN, Reason.CONNECTION_REFUSED, hard=True)
    world.pass_s(10, looks=False)
    assert len(world.told()) <= 12
    assert world.told()[-1].alertname == "many_at_once"
    for target in targets:
        for _ in range(2):
            world.look(target.key.service)
    world.pass_s(30, looks=False)
    assert world.told()[-1].kind is NoticeKind.RESOLVE
    triggers = {one.episode for one in world.told(NoticeKind.TRIGGER)}
    assert {one.episode for one in world.told(NoticeKind.RESOLVE)} == triggers


def test_what_changed_shortly_before_is_in_the_page(world: World) -> None:
    world.judge.changed(Change(at_s=world.now_s - 100, text="deploy v2.14.0", component="auth"))
    world.judge.changed(Change(at_s=world.now_s - 100, text="deploy v9", component="chat"))
    world.kill("auth")
    body = dict(world.told()[0].body)
    assert body["Changed"].startswith("deploy v2.14.0 at ")
    assert "v9" not in body["Changed"]


def test_a_contradiction_is_its_own_finding(world: World) -> None:
    # By the name such documents use: auth depends on one database only.
    claims = (Claim(about="postgresql", state=State.DOWN),)
    for _ in range(14):
        world.look("auth", claims=claims)
        for other in ("postgres", "nats"):
            world.look(other)
        world.pass_s(10, looks=False)
    assert "trigger witnesses_disagree auth" in world.said()
    (told,) = (one for one in world.told() if one.alertname == "witnesses_disagree")
    assert "auth says postgresql is down, the agent finds postgres up" in told.title


def test_a_contradiction_is_dated_by_when_the_claim_turned(world: World) -> None:
    turned_s = world.now_s + 200
    for second in range(0, 400, 10):
        claims = (Claim(about="postgresql", state=State.UP if second < 200 else State.DOWN),)
        world.look("auth", claims=claims)
        for other in ("postgres", "nats"):
            world.look(other)
        world.pass_s(10, looks=False)
    (told,) = (one for one in world.told() if one.alertname == "witnesses_disagree")
    assert f"since {moment(turned_s)}" in str(told)


def test_a_measure_comes_to_be_when_first_seen_and_its_growth_is_compared() -> None:
    rules = {
        "cpu": MeasureRule(measure="gaia_host_cpu_ratio", above="90%"),
        "restarts": MeasureRule(measure="gaia_restarts", above=2, increase_over=Duration(600)),
    }
    world = World(plan(rules))
    assert world.judge.instances() == ()
    for cpu, restarts in ((0.5, 7), (0.95, 8), (0.85, 9), (0.80, 11)):
        measures = (
            Measure(name="gaia_host_cpu_ratio", value=cpu),
            Measure(name="gaia_restarts", value=restarts),
        )
        world.look("auth", measures=measures)
        world.pass_s(10, looks=False)
    assert world.states() == {"cpu auth": "recovering", "restarts auth": "firing"}
    assert "gaia_host_cpu_ratio is 95%, over 90%" in world.told()[0].title


def test_alerts_of_others_get_our_outbox_causes_and_episodes(world: World) -> None:
    theirs = ExternalAlert(
        labels={"alertname": "HighLag", "service": "auth", "severity": "critical"},
        annotations={"summary": "replication lag", "description": "lag is 40 s"},
    )
    world.judge.receive([theirs], world.now_s)
    world.pass_s(1)
    assert world.said() == ["trigger HighLag auth"]
    world.judge.receive([ExternalAlert(labels=theirs.labels, ends_at_s=world.now_s - 1)], world.now_s)
    assert world.said() == ["trigger HighLag auth", "resolve HighLag auth"]
    world.judge.receive([theirs], world.now_s)
    world.pass_s(400)
    assert world.told()[-1].ended == "expired"


def test_an_external_alert_of_a_dependent_is_listed_under_its_cause(world: World) -> None:
    world.kill("postgres")
    theirs = ExternalAlert(labels={"alertname": "LoginErrors", "service": "auth", "severity": "critical"})
    world.judge.receive([theirs], world.now_s)
    world.pass_s(10)
    assert world.said() == ["trigger database_down postgres"]


def test_a_broken_rule_is_said_once_and_breaks_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alerts.signals import looks

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(looks, "slow_probes", broken)
    world.look("auth", latency_s=30.0)  # Nothing need be read of what is plainly well.
    world.pass_s(60)
    assert world.said() == ["trigger rule_broken"]
    world.kill("postgres")
    assert world.said()[-1] == "trigger database_down postgres"


def test_the_agents_own_sleep_counts_for_nothing(world: World) -> None:
    rules = {"service_down": TargetStateRule(for_=Duration(60))}
    world.judge.reload(plan(rules), world.now_s)
    world.fail("auth")
    world.pass_s(20)
    assert world.states() == {"service_down auth": "pending"}
    world.now_s += 3600
    world.pass_s(20)
    assert world.states() == {"service_down auth": "pending"}
    world.pass_s(70)
    assert world.states() == {"service_down auth": "firing"}


def test_a_clock_that_steps_back_neither_fires_nor_resolves(world: World) -> None:
    world.kill("postgres")
    world.now_s -= 7200
    world.pass_s(30)
    assert world.said() == ["trigger database_down postgres"]
    assert world.alert("database_down", "postgres").state is Phase.FIRING


def test_after_a_clock_was_set_back_two_good_looks_resolve(world: World) -> None:
    world.fail("postgres")
    world.now_s -= 5000
    world.pass_s(30, looks=False)
    assert world.alert("database_down", "postgres").state is Phase.FIRING
    world.heal("postgres")
    world.pass_s(60)
    assert world.said() == ["trigger database_down postgres", "resolve database_down postgres"]


def test_looks_that_come_before_a_step_back_is_noticed_are_not_made_old(world: World) -> None:
    world.now_s -= 5000
    for service in world.targets:
        world.look(service)
    world.pass_s(60)
    assert world.states() == {}


def test_after_a_clock_was_set_back_a_source_that_is_seen_no_more_is_told(world: World) -> None:
    world.now_s -= 5000
    world.pass_s(120, looks=False)
    assert world.states()["no_data postgres"] == "firing"


def test_a_clock_that_is_set_back_just_before_a_restart_holds_up_no_resolve(tmp_path: Path) -> None:
    world = World(path=tmp_path / "journal.db")
    world.pass_s(30)
    world.fail("postgres")
    world.now_s -= 5000
    world.restart()
    world.heal("postgres")
    world.pass_s(60)
    assert world.said() == ["trigger database_down postgres", "resolve database_down postgres"]


def test_identity_never_contains_a_value_and_is_unique() -> None:
    made = list(Roster(plan()).all())
    assert len({one.fingerprint for one in made}) == len(made)
    assert {name for one in made for name in one.labels} == {"alertname", "env", "service", "check"}
    assert fingerprint({"a": "1", "b": "2"}) == fingerprint({"b": "2", "a": "1"})


def test_a_circle_of_dependencies_is_named() -> None:
    with pytest.raises(ValueError, match="a -> b -> a"):
        Graph({"a": ("b",), "b": ("a",)})


def test_the_trail_says_why_nobody_was_called(world: World) -> None:
    world.kill("postgres")
    world.fail("auth")
    trail = [one.what for one in world.journal.happenings(world.alert("service_down", "auth").fingerprint)]
    assert trail == ["fired", "inhibited"]


def _silence(world: World, matchers: str, *, lasts_s: float = 3600, covers: bool = False) -> Silence:
    return Silence(
        id="s1", matchers=parse_matchers(matchers), starts_at_s=world.now_s, ends_at_s=world.now_s + lasts_s,
        author="mira", comment="upgrade", created_at_s=world.now_s, covers_dependents=covers,
    )  # fmt: skip


def _remind_every_ten_minutes() -> JudgePlan:
    return plan(receivers={"on_call": Receiver(console=Console(), repeat_page=Duration(600))})


def _silenced(world: World, seconds: float, service: str = "postgres") -> None:
    silence = Silence(
        id=f"s{world.now_s}", matchers=parse_matchers(f'service="{service}"'), starts_at_s=world.now_s,
        ends_at_s=world.now_s + seconds, author="mira", comment="known", created_at_s=world.now_s,
    )  # fmt: skip
    world.judge.silence(silence, world.now_s)


def test_a_silence_stops_reminders_and_its_end_is_said_once() -> None:
    world = World(_remind_every_ten_minutes())
    world.pass_s(20)
    world.kill("postgres")
    world.pass_s(30)
    _silenced(world, 3600)
    world.pass_s(3500)
    assert [one.kind for one in world.told()] == ["trigger"]
    world.pass_s(130)
    assert [one.kind for one in world.told()] == ["trigger", "reminder"]
    assert "its silence has ended" in world.told()[-1].title
    world.pass_s(500)
    assert len(world.told()) == 2


def test_what_was_never_told_because_of_a_silence_says_so_when_it_is(world: World) -> None:
    _silenced(world, 300)
    world.kill("postgres")
    world.pass_s(290)
    assert world.told() == []
    world.pass_s(30)
    (first,) = world.told()
    assert (first.kind, "its silence has ended" in first.title) == (NoticeKind.TRIGGER, True)


def test_a_silence_stops_escalation() -> None:
    receivers = {"first": Receiver(console=Console()), "boss": Receiver(console=Console(), severities=())}
    steps = (EscalationStep(receiver="boss", after=Duration(300)),)
    world = World(plan(receivers=receivers, escalation=steps))
    world.pass_s(20)
    world.kill("postgres")
    world.pass_s(60)
    _silenced(world, 3600)
    world.pass_s(1200)
    assert [row.channel for row in world.rows] == ["first/console"]


def test_an_ack_stops_escalation_until_it_expires_and_then_says_whose_it_was() -> None:
    world = World(_remind_every_ten_minutes())
    world.pass_s(20)
    world.kill("postgres")
    world.pass_s(60)
    assert world.judge.ack("database_down", "mira", world.now_s, lasts_s=1800)
    world.pass_s(1700)
    assert len(world.told()) == 1
    world.pass_s(200)
    assert "mira's acknowledgement has ended" in world.told()[-1].title


def test_a_reminder_says_what_is_known_now(world: World) -> None:
    world.judge.reload(_remind_every_ten_minutes(), world.now_s)
    world.kill("postgres")
    world.pass_s(300)
    world.look("postgres", State.DOWN, Reason.PG_REFUSED, hard=True, message="too many clients already")
    world.pass_s(320, looks=False)
    reminder = world.told(NoticeKind.REMINDER)[0]
    assert reminder.title.startswith(
        "PROD · postgres still cannot be used after 10 min, nobody has taken it: "
    )
    assert "too many clients" in reminder.title


def test_a_window_that_opens_once_is_a_silence_between_two_times() -> None:
    window = MaintenanceWindow(
        starts="2027-01-15T08:01:00Z", ends="2027-01-15T08:03:00Z", targets=("postgres",), comment="upgrade"
    )
    world = World(plan(maintenance=(window,)))
    assert START_S == 1_800_000_000  # 2027-01-15T08:00:00Z
    world.pass_s(70)
    world.kill("postgres")
    world.pass_s(100)
    assert world.told() == []
    assert world.alert("database_down", "postgres").silenced_by == "maintenance: upgrade"
    world.pass_s(30)
    assert world.said() == ["trigger database_down postgres"]


def test_a_reader_elsewhere_sees_the_time_of_day_there_and_others_do_not() -> None:
    receivers = {
        "here": Receiver(console=Console(), timezone="Europe/Berlin"),
        "there": Receiver(console=Console()),
    }
    world = World(plan(receivers=receivers))
    world.pass_s(20)
    world.kill("postgres")
    titles = {row.channel: row.notice.title for row in world.rows}
    assert titles["here/console"].endswith("since 08:00:20 UTC (09:00 Berlin)")
    assert titles["there/console"].endswith("since 08:00:20 UTC")
    world.heal("postgres")
    world.pass_s(10)
    ends = {row.channel: row.notice.text for row in world.rows if row.notice.kind is NoticeKind.RESOLVE}
    assert "Since: 08:00:20 UTC (09:00 Berlin) on" in ends["here/console"]
    assert "Since: 08:00:20 UTC on" in ends["there/console"]


def test_what_was_seen_before_the_clock_was_set_back_holds_up_no_resolve(world: World) -> None:
    world.fail("postgres")
    world.now_s -= 5000
    world.pass_s(30, looks=False)
    world.heal("postgres")
    world.pass_s(900)
    assert world.states() == {}


def test_an_alert_of_others_that_ended_is_not_on_again_when_the_clock_is_set_back(world: World) -> None:
    labels = {"alertname": "Theirs", "service": "nats", "severity": "critical"}
    world.judge.receive([ExternalAlert(labels=labels)], world.now_s)
    world.pass_s(400)
    assert world.said() == ["trigger Theirs nats", "resolve Theirs nats"]
    world.now_s -= 1000
    world.pass_s(60)
    assert world.said() == ["trigger Theirs nats", "resolve Theirs nats"]
