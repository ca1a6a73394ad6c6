"""The `gaia` command: one parser, one module per subcommand, imported only when chosen."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import Final, Protocol, cast

from agent import VERSION

OK: Final = 0
PROBLEM: Final = 1
DOWN: Final = 2
UNKNOWN: Final = 3

# Name on the command line, its module, and the line `gaia --help` shows.
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "up": ("agent.cli.up", "run the whole platform on this machine, watched, until Ctrl-C"),
    "run": ("agent.cli.run", "run the agent until told to stop"),
    "check": ("agent.cli.check", "look once, now: exit 0 up, 1 degraded, 2 down, 3 unknown"),
    "status": ("agent.cli.status", "how the platform is, asked of the running agent"),
    "alerts": ("agent.cli.alerts", "what is wrong now, and who was called"),
    "explain": (
        "agent.cli.explain",
        "why an alert or target is as it is, its last failures, who was called",
    ),
    "ack": ("agent.cli.ack", "take an alert: reminders and escalation stop"),
    "silence": ("agent.cli.silence", "add, list or end silences"),
    "notify": ("agent.cli.notify", "send a test message to a receiver and see whether it arrives"),
    "report": (
        "agent.cli.report",
        "which rules called, who acted on it, and what would have spared it",
    ),
    "backtest": ("agent.cli.backtest", "when a rule would have fired on what was really seen"),
    "rules": ("agent.cli.rules", "the rules for Prometheus, with tests for promtool"),
    "drill": ("agent.cli.drill", "break parts of the running local platform and measure who notices when"),
    "reload": ("agent.cli.reload", "have the running agent read gaia.yaml again"),
    "validate": ("agent.cli.validate", "check gaia.yaml: every mistake at once, with its place"),
    "dlq": ("agent.cli.dlq", "telemetry a backend refused: list, show, replay or drop it"),
    "dashboards": ("agent.cli.dashboards", "the Grafana dashboards as files"),
    "doctor": ("agent.cli.doctor", "what is wrong with this installation, and what it may not see"),
    "schema": ("agent.cli.schema", "print the JSON Schema of gaia.yaml, for editors"),
    "init": ("agent.cli.init", "write a first gaia.yaml from fly*.toml files or running services"),
    "import": ("agent.cli.import_", "an alertmanager.yml as tables of gaia.yaml, and what has no equivalent"),
    "config": ("agent.cli.config", "show what is in effect in one environment, and where it comes from"),
}


class Command(Protocol):
    """What a subcommand's module provides."""

    def configure(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int: ...


class _Parser(argparse.ArgumentParser):
    """Usage errors exit with 3, as Nagios plug-ins do: 2 means that a target is down."""

    def error(self, message: str) -> None:  # type: ignore[override]  # typeshed says NoReturn; exit() never returns.
        self.print_usage(sys.stderr)
        self.exit(UNKNOWN, f"{self.prog}: {message}\n")


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand; the exit code is its answer."""
    words = sys.argv[1:] if argv is None else argv
    parser = _Parser(
        prog="gaia",
        description="Your deployment strategy, executable.",
        epilog="Exit codes: 0 ok, 1 degraded or problem found, 2 down, 3 unknown, usage or configuration.",
    )
    parser.add_argument("--version", action="version", version=f"gaia {VERSION}", help="show the version")
    chosen = next((word for word in words if not word.startswith("-")), None)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    # A parser for each of the others is only there to be listed.
    listed = COMMANDS if words[:1] != [chosen] or chosen not in COMMANDS else {chosen: COMMANDS[chosen]}
    for name, (path, line) in listed.items():
        subparser = subparsers.add_parser(name, help=line, description=line)
        if name == chosen:
            command = cast("Command", import_module(path))
            command.configure(subparser)
            subparser.set_defaults(run=command.run)
    args = parser.parse_args(words)
    try:
        code: int = args.run(args)
    except BrokenPipeError:
        # The reader went away (`gaia alerts | head`); there is nobody left to tell.
        sys.stderr.close()
        return OK
    except KeyboardInterrupt:
        return 130
    return code
