"""The exported rules are rules a real Prometheus takes, and their own tests pass there."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import promql_parser
import pytest

from alerts.promql import expression, rules_file, untranslatable
from alerts.promql_tests import tests_file as promtool_tests
from alerts.rule import (
    DEFAULT_POLICIES,
    DEFAULT_RULES,
    BurnRateRule,
    MeasureRule,
    Rule,
    TargetStateRule,
)
from checks.units import Duration
from tests.alerts.promtool import PROMTOOL, needs_promtool

RULES: dict[str, Rule] = {
    **DEFAULT_RULES,
    "budget": BurnRateRule(),
    "cpu": MeasureRule(measure="gaia_host_cpu_ratio", above="90%"),
    "disk": MeasureRule(measure="gaia_disk_free_bytes", where={"mount": "/"}, below="1GB"),
    "restarts": MeasureRule(measure="gaia_machine_restarts", above=3, increase_over=Duration(600)),
}


@pytest.mark.parametrize("name", RULES)
def test_every_expression_parses(name: str) -> None:
    expr = expression(RULES[name], "production", ("auth", "asset"))
    if expr is None:
        assert name in untranslatable(RULES, "production")
    else:
        promql_parser.parse(expr)


@needs_promtool
def test_the_exported_rules_and_their_tests_pass(tmp_path: Path) -> None:
    assert PROMTOOL is not None
    rules = rules_file(RULES, "production", {}, 15)
    tests = promtool_tests(RULES, "production", 15, "rules.yml")
    (tmp_path / "rules.yml").write_text(json.dumps(rules))
    (tmp_path / "tests.yml").write_text(json.dumps(tests))
    for words in (["check", "rules", "rules.yml"], ["test", "rules", "tests.yml"]):
        done = subprocess.run(
            [PROMTOOL, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    tested = tests["tests"]
    assert isinstance(tested, list)
    assert len(tested) >= 10


def test_only_what_prometheus_cannot_say_is_left_out() -> None:
    policy = {name: DEFAULT_RULES[name] for name in DEFAULT_POLICIES["comprehensive"]}
    assert untranslatable(policy, "production") == (
        "error_logs_and_bad_traffic",
        "fatal_logs",
        "new_error_log",
    )
    assert untranslatable({"k": TargetStateRule(at_least=3, out_of=5)}, "production") == ("k",)
