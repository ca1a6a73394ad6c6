"""`gaia rules export`: the rules of an environment as Prometheus alerting rules, with promtool tests."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from agent.cli import OK, UNKNOWN, defaults
from agent.platform.problem import PlatformError
from agent.platform.scope import Scope
from alerts.promql import rules_file, untranslatable
from alerts.promql_tests import tests_file
from checks.target import Kind


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `gaia rules export`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    export = actions.add_parser("export", help="write Prometheus rules and promtool tests")
    export.add_argument("--config", type=Path, default=defaults.config(), help="the platform file")
    export.add_argument(
        "--env", default=defaults.environment() or "production", help="whose rules (default %(default)s)"
    )
    export.add_argument("--out", type=Path, help="a directory for rules and tests (default: rules on stdout)")
    export.add_argument("--json", action="store_true", help="say in JSON what was written (rules are JSON)")


def run(args: argparse.Namespace) -> int:
    """0 when written; 3 when the file is wrong. JSON is YAML, so Prometheus and promtool read it."""
    from agent.platform.load import load

    try:
        platform = load(args.config, environ=os.environ)
        # Rules need no secret.
        scope = platform.scopes[platform.name_of(args.env)]
    except PlatformError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return UNKNOWN
    env = scope.environment_name
    interval_s = float(scope.environment.check_interval)
    rules = rules_file(scope.rules, env, _looked_at(scope), interval_s)
    for name in untranslatable(scope.rules, env):
        print(f"gaia rules: {name} has no equivalent in PromQL and is left out", file=sys.stderr)
    if args.out is None:
        print(json.dumps(rules, indent=2))
        return OK
    args.out.mkdir(parents=True, exist_ok=True)
    name = f"gaia-{env}.rules.yml"
    # What a test asserts must not depend on which services there are.
    plain = rules_file(scope.rules, env, {}, interval_s)
    (args.out / name).write_text(json.dumps(rules, indent=2) + "\n", encoding="utf-8")
    (args.out / f"tested-{name}").write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
    tests = tests_file(scope.rules, env, interval_s, f"tested-{name}")
    (args.out / f"gaia-{env}.tests.yml").write_text(json.dumps(tests, indent=2) + "\n", encoding="utf-8")
    written = {"rules": str(args.out / name), "tests": f"{args.out}/gaia-{env}.tests.yml"}
    if args.json:
        print(json.dumps(written))
    else:
        print(f"wrote {written['rules']} and its tests: promtool test rules {written['tests']}")
    return OK


def _looked_at(scope: Scope) -> dict[str, tuple[str, ...]]:
    """The components each rule looks at, where its kinds leave some out."""
    kinds = {
        Kind.SERVICE: tuple(scope.services),
        Kind.DATABASE: tuple(scope.databases),
        Kind.BROKER: tuple(scope.brokers),
        Kind.HOST: tuple(scope.hosts),
    }
    return {
        name: tuple(component for kind in rule.kinds for component in kinds.get(kind, ()))
        for name, rule in scope.rules.items()
        if rule.kinds
    }
