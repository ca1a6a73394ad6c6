"""`gaia validate`: every mistake of the file at once, with its place and what was expected."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec

from agent.cli import OK, UNKNOWN, defaults
from agent.platform.problem import PlatformError, Problem, Severity
from agent.platform.scope import Platform


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `gaia validate`."""
    add = parser.add_argument
    add("--config", type=Path, default=defaults.config(), metavar="FILE", help="the platform file")
    add("--overlay", type=Path, metavar="FILE", help="a second file, laid key by key over the first")
    add(
        "--env",
        action="append",
        metavar="ENV",
        help="insist on the variables of this environment only; may be repeated (default: all of them)",
    )
    add(
        "--without-secrets",
        action="store_true",
        help="do not insist on variables at all: for CI, where secrets are not set",
    )
    add("--strict", action="store_true", help="warnings count as mistakes")
    add("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """0 when the file can be used, 3 when not."""
    from agent.platform.load import load

    platform: Platform | None = None
    try:
        platform = load(args.config, overlay=args.overlay, environ=os.environ)
        problems = [*platform.warnings, *_unset(platform, args)]
    except PlatformError as error:
        problems = list(error.problems)
    errors = [problem for problem in problems if problem.severity is Severity.ERROR or args.strict]
    if args.json:
        _print_json(args.config, platform, problems, ok=not errors)
    else:
        _print_text(args.config, platform, problems)
    return UNKNOWN if errors else OK


def _unset(platform: Platform, args: argparse.Namespace) -> list[Problem]:
    """Variables without a value, each place once with all the environments that need it."""
    if args.without_secrets:
        return []
    wanted = [platform.name_of(word) for word in args.env] if args.env else list(platform.scopes)
    places: dict[tuple[str, int, int, str], list[Problem]] = {}
    for environment in wanted:
        for problem in platform.unset_in(environment):
            name = problem.message.split(" ", 1)[0]
            places.setdefault((problem.file, problem.line, problem.column, name), []).append(problem)
    return [_needed_by(name, found) for (_, _, _, name), found in sorted(places.items())]


def _needed_by(name: str, found: list[Problem]) -> Problem:
    environments = [problem.environment for problem in found]
    if len(environments) == 1:
        return found[0]
    listed = f"{', '.join(environments[:-1])} and {environments[-1]}"
    return msgspec.structs.replace(
        found[0], message=f"{name} is not set; environments {listed} need it", environment=""
    )


def _print_text(config: Path, platform: Platform | None, problems: Iterable[Problem]) -> None:
    from agent.platform import report

    problems = list(problems)
    if problems:
        print(report.text(problems), file=sys.stderr)
    errors = sum(1 for problem in problems if problem.severity is Severity.ERROR)
    warnings = len(problems) - errors
    counted = ", ".join(part for part in (_count(errors, "error"), _count(warnings, "warning")) if part)
    said = counted or "ok"
    print(f"{config}: {said}" + (f": {_contents(platform)}" if platform is not None else ""))


def _contents(platform: Platform) -> str:
    scope = next(iter(platform.scopes.values()))
    counts = (
        (len(platform.scopes), "environment"),
        (len(scope.services), "service"),
        (len(scope.databases), "database"),
        (len(scope.brokers), "broker"),
        (len(scope.hosts), "host"),
        (len(scope.alerts.rules), "rule"),
    )
    return ", ".join(part for number, noun in counts if (part := _count(number, noun)))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}" if number else ""


def _print_json(config: Path, platform: Platform | None, problems: list[Problem], *, ok: bool) -> None:
    document = {
        "file": str(config),
        "ok": ok,
        "platform": platform.name if platform else None,
        "environments": list(platform.scopes) if platform else [],
        "problems": [
            {
                "file": problem.file,
                "line": problem.line,
                "column": problem.column,
                "severity": problem.severity.value,
                "key": problem.key,
                "message": problem.message,
                "nearest": problem.nearest or None,
                "environment": problem.environment or None,
            }
            for problem in problems
        ],
    }
    print(msgspec.json.format(msgspec.json.encode(document)).decode())
