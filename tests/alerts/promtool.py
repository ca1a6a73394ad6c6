"""Asks promtool what a real Prometheus decides: one run, every case, every evaluation."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.alerts.parity import Case, promql

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool (Debian: prometheus) is not installed")

_TIME = re.compile(r'expr: "ALERTS", time: (?P<time>[0-9hms.]+),')
_GOT = re.compile(r'alertname="(?P<name>[^"]+)", alertstate="(?P<state>[^"]+)"')
_PART = re.compile(r"(\d+)(ms|[hms])")


def decided(cases: list[Case], folder: Path) -> dict[str, list[list[Any]]]:
    """(second, state) at each change of each case, by Prometheus."""
    found: dict[str, list[list[Any]]] = {}
    by_interval: dict[float, list[Case]] = defaultdict(list)
    for case in cases:
        by_interval[case.interval_s].append(case)
    for interval_s, group in by_interval.items():
        found |= _run(group, interval_s, folder / f"{interval_s:g}")
    return found


def _run(cases: list[Case], interval_s: float, folder: Path) -> dict[str, list[list[Any]]]:
    assert PROMTOOL is not None
    folder.mkdir(parents=True, exist_ok=True)
    steps = max(case.steps for case in cases)
    rules = [
        {
            "alert": case.id,
            "expr": promql(case),
            "for": f"{case.for_s:g}s",
            "keep_firing_for": f"{case.keep_s:g}s",
        }
        for case in cases
    ]
    series = [
        {"series": f'{name}{{case="{case.id}"}}', "values": values}
        for case in cases
        for name, values in case.series.items()
    ]
    asks = [
        {
            "expr": "ALERTS",
            "eval_time": f"{round(number * interval_s)}s",
            "exp_samples": [{"labels": "no_such_series", "value": 1}],
        }
        for number in range(steps)
    ]
    # JSON is YAML.
    (folder / "rules.yml").write_text(
        json.dumps({"groups": [{"name": "g", "interval": f"{interval_s:g}s", "rules": rules}]})
    )
    (folder / "test.yml").write_text(
        json.dumps({
            "rule_files": ["rules.yml"],
            "evaluation_interval": f"{interval_s:g}s",
            "tests": [{"interval": f"{interval_s:g}s", "input_series": series, "promql_expr_test": asks}],
        })
    )  # fmt: skip
    done = subprocess.run(
        [PROMTOOL, "test", "rules", "test.yml"],
        cwd=folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    return _read(done.stdout + done.stderr, cases, interval_s, steps)


def _read(text: str, cases: list[Case], interval_s: float, steps: int) -> dict[str, list[list[Any]]]:
    at: dict[float, dict[str, str]] = {}
    now_s: float | None = None
    for line in text.splitlines():
        if match := _TIME.search(line):
            now_s = _seconds(match["time"])
        elif now_s is not None and line.strip().startswith("got:"):
            at[now_s] = {hit["name"]: hit["state"] for hit in _GOT.finditer(line)}
    assert len(at) == steps, f"promtool answered {len(at)} of {steps} evaluations:\n{text[:2000]}"
    return {case.id: _changes(case, at, interval_s) for case in cases}


def _changes(case: Case, at: dict[float, dict[str, str]], interval_s: float) -> list[list[Any]]:
    changes: list[list[Any]] = []
    state = "inactive"
    for number in range(case.steps):
        new = at[number * interval_s].get(case.id, "inactive")
        if new != state:
            state = new
            changes.append([number * interval_s, state])
    return changes


def _seconds(text: str) -> float:
    unit = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    return sum(float(number) * unit[name] for number, name in _PART.findall(text))
