"""Our evaluator beside a real Prometheus: equal in parity mode, different on purpose otherwise."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from alerts.ledger import Ledger
from alerts.machine import Pace, Phase, Standing, step
from alerts.reading import Outcome, Reading, Unknown, unknown
from alerts.requests import RequestSample
from alerts.rule import ErrorRatioRule
from alerts.signals import traffic
from checks.units import Duration
from tests.alerts.corpus_cases import CORPUS, all_cases
from tests.alerts.parity import Case, holds, points, rate, timeline
from tests.alerts.promtool import decided, needs_promtool

RECORDED: dict[str, list[list[Any]]] = {one["id"]: one["timeline"] for one in json.loads(CORPUS.read_text())}
DOCUMENT = Path(__file__).parents[2] / "docs" / "judging.md"
CASES = {case.id: case for case in all_cases()}


def test_the_corpus_has_at_least_sixty_cases_and_every_one_is_recorded() -> None:
    assert len(CASES) >= 60
    assert set(CASES) == set(RECORDED)


def test_every_case_the_documentation_names_is_recorded() -> None:
    named = set(re.findall(r"\b[a-z]{2}\d{2}\b", DOCUMENT.read_text()))
    assert len(named) >= 6
    assert named <= set(RECORDED)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_parity_mode_makes_the_transitions_prometheus_made(case: Case) -> None:
    assert timeline(case) == RECORDED[case.id]


@needs_promtool
def test_promtool_still_decides_what_was_recorded(tmp_path: Path) -> None:
    assert decided(list(CASES.values()), tmp_path) == RECORDED


@needs_promtool
def test_a_wrong_edge_by_one_evaluation_is_caught(tmp_path: Path) -> None:
    case = CASES["st03"]
    real = decided([case], tmp_path)[case.id]
    shifted = [[at_s + case.interval_s, state] for at_s, state in real]
    assert real != shifted
    assert timeline(case) != shifted


def _random_case(number: int, source: random.Random) -> Case:
    """A counter pair with gaps, resets, births and stale markers; every tenth a gauge."""
    steps = 120
    interval_s = 15.0
    if number % 5 == 4:
        values = [source.choice(["0", "1", "1", "3", "_", "stale"]) for _ in range(steps)]
        return Case(
            id=f"fz{number}", about="random gauge", interval_s=interval_s, series={"g": " ".join(values)},
            expr={"kind": "above", "above": 0.5}, for_s=source.choice([0, 15, 40, 60]),
            keep_s=source.choice([0, 15, 60]), steps=steps,
        )  # fmt: skip
    per_step = source.choice([1, 7, 40, 100])
    total, errors = 0, 0
    t_values, e_values = [], []
    born = source.choice([0, 0, 30])
    share = 0.0
    for index in range(steps):
        if source.random() < 0.1:
            share = source.choice([0.0, 0.02, 0.08, 0.3, 1.0])
        if source.random() < 0.02:
            total = errors = 0
        grown = source.randint(0, 2 * per_step)
        total += grown
        errors += sum(source.random() < share for _ in range(grown))
        fate = source.random()
        missing = "_" if fate < 0.05 else "stale" if fate < 0.06 else None
        t_values.append(missing or str(total))
        e_values.append("_" if index < born else missing or str(errors))
    over = source.choice([60, 120, 300])
    expr: dict[str, Any] = {"kind": "ratio", "over": over, "above": 0.05}
    if source.random() < 0.5:
        expr["and_over"] = 60
    if source.random() < 0.3:
        expr["min_total"] = 20
    return Case(
        id=f"fz{number}", about="random counters", interval_s=interval_s,
        series={"e": " ".join(e_values), "t": " ".join(t_values)}, expr=expr,
        for_s=source.choice([0, 30, 60, 120]), keep_s=source.choice([0, 60]), steps=steps,
    )  # fmt: skip


def _on_the_edge(case: Case) -> bool:
    """Floats decide differently only where a ratio or a count lies exactly on its limit."""
    if case.expr["kind"] != "ratio":
        return False
    series = {name: points(values, case.interval_s) for name, values in case.series.items()}
    windows = [case.expr["over"], case.expr.get("and_over", case.expr["over"])]
    for number in range(case.steps):
        for window in windows:
            bad = rate(series["e"], number * case.interval_s, window)
            total = rate(series["t"], number * case.interval_s, window)
            if total is None:
                continue
            if bad is not None and total and abs(bad / total - case.expr["above"]) < 1e-9:
                return True
            if abs(total * window - case.expr.get("min_total", -1)) < 1e-6:
                return True
    return False


@needs_promtool
def test_random_counters_gaps_resets_and_births_agree_case_by_case(tmp_path: Path) -> None:
    cases = [_random_case(number, random.Random(f"gaia {number}")) for number in range(120)]
    found = decided(cases, tmp_path)
    differ = [case.id for case in cases if timeline(case) != found[case.id] and not _on_the_edge(case)]
    assert differ == []
    assert sum(bool(changes) for changes in found.values()) >= 60, "most cases must do something"


# What production mode does differently, and why. The corpus names the case.


def _judged(case: Case, rule: ErrorRatioRule, *, incarnations: bool = True) -> list[list[Any]]:
    """(second, phase) at each change, by the exact windows and the real state machine."""
    errors, total = (dict(points(case.series[name], case.interval_s)) for name in ("e", "t"))
    ledger = Ledger()
    pace = Pace(for_s=rule.for_, keep_firing_s=rule.keep_firing_for, interval_s=case.interval_s, window_s=60)
    standing = Standing()
    changes: list[list[Any]] = []
    for number in range(case.steps):
        now_s = number * case.interval_s
        seen = total.get(now_s)
        if seen is not None:
            ledger.add(
                RequestSample(
                    env="production", service="auth", source="a", at_s=now_s + 1e-6, incarnation="1",
                    total=int(seen), errors=int(errors.get(now_s) or 0),
                )
            )  # fmt: skip
        reading = traffic.ratio(rule, ledger, now_s + 1e-6, firing=standing.firing, vouched=False)
        standing, happened = step(standing, reading, pace, now_s + 1e-6)
        if happened:
            changes.append([now_s, standing.phase.value])
    return changes


RULE = ErrorRatioRule(and_over=None, keep_firing_for=Duration(0), recover_below=None)


def test_a_gap_in_the_data_pauses_and_never_resolves_where_prometheus_resolves() -> None:
    assert [1200, "inactive"] in RECORDED["er13"]
    ours = _judged(CASES["er13"], RULE)
    assert [state for _, state in ours].count("firing") == 1
    assert not [at_s for at_s, state in ours if state == "ok" and at_s < 1600]


def test_traffic_that_stops_does_not_resolve_where_prometheus_resolves() -> None:
    assert RECORDED["er19"][-1][1] == "inactive"
    assert _judged(CASES["er19"], RULE)[-1][1] == "firing"


def test_the_first_error_of_a_newborn_series_counts_where_prometheus_never_sees_it() -> None:
    assert RECORDED["lg02"] == []
    ledger = Ledger()
    for at_s, errors in ((0, 0), (15, 0), (30, 30)):
        ledger.add(
            RequestSample(
                env="e", service="s", source="a", at_s=at_s, incarnation="1", total=100 * (at_s // 15 + 1),
                errors=errors,
            )
        )  # fmt: skip
    assert ledger.counts(30, 300).errors == 30


def test_one_failed_look_and_silence_do_not_fire_where_prometheus_fires() -> None:
    assert [state for _, state in RECORDED["pr13"]] == ["pending", "firing", "inactive"]
    pace = Pace(for_s=30, interval_s=10, window_s=0)
    standing = Standing()
    phases = []
    for number, reading in enumerate(
        [Reading(outcome=Outcome.BAD, at_s=0.5)] + [unknown(Unknown.STALE, 0.5)] * 8
    ):
        standing, _ = step(standing, reading, pace, 1 + number * 10)
        phases.append(standing.phase)
    assert Phase.FIRING not in phases
    assert phases[-1] is Phase.OK


def test_all_machines_gone_stays_firing_where_prometheus_resolves() -> None:
    assert RECORDED["ma01"][-1][1] == "inactive"
    standing, pace = Standing(), Pace(for_s=30, interval_s=10)
    for number in range(5):
        standing, _ = step(
            standing, Reading(outcome=Outcome.BAD, at_s=number * 10 + 1), pace, number * 10 + 1
        )
    assert standing.phase is Phase.FIRING
    for number in range(5, 90):
        standing, _ = step(standing, unknown(Unknown.STALE, 41), pace, number * 10 + 1)
    assert standing.phase is Phase.FIRING


def test_the_series_holds_helper_sees_stale_markers() -> None:
    series = {"g": points("1 1 stale 1", 10)}
    expr = {"kind": "above", "above": 0.5}
    assert [holds(expr, series, at_s) for at_s in (0, 10, 20, 30)] == [True, True, False, True]
