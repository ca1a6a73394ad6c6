"""`gaia run`: the agent itself, until told to stop."""

from __future__ import annotations

import argparse
from pathlib import Path

from agent.cli import defaults


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `gaia run`."""
    parser.add_argument("--config", type=Path, default=defaults.config(), help="the platform file")
    parser.add_argument("--overlay", type=Path, help="a second file, laid key by key over the first")
    parser.add_argument(
        "--env", action="append", metavar="ENV", help="the environment to watch; may be repeated"
    )
    parser.add_argument("--data", type=Path, help="where state is kept (default: the file's agent.data)")
    parser.add_argument(
        "--follow",
        action="append",
        default=[],
        metavar="[SERVICE=]FILE",
        help="a file of JSON log lines to read as it grows; may be repeated (see telemetry.follow)",
    )
    parser.add_argument("--listen", metavar="HOST:PORT", help="where the page and API are served")


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT; 3 when the file cannot be used."""
    from agent.process import serve

    return serve(
        config=args.config,
        overlay=args.overlay,
        environments=tuple(args.env or filter(None, [defaults.environment()])),
        data=args.data,
        listen=args.listen,
        follow=tuple(_followed(text) for text in args.follow),
    )


def _followed(text: str) -> tuple[str, str]:
    """Service and path: `auth=/var/log/auth.log`, or a path alone, whose lines tell their service."""
    service, equals, path = text.partition("=")
    return (service, path) if equals and "/" not in service else ("", text)
