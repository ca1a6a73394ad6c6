"""`gaia alerts`: what is wrong now, since when, with which number, and who was called."""

from __future__ import annotations

import argparse
import sys

import msgspec

from agent.cli import OK, PROBLEM, UNKNOWN
from agent.cli.api import Api, ApiError, add_arguments
from agent.web.answers import AlertsAnswer
from agent.web.source import ActiveAlert
from alerts.words import clock, span


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `gaia alerts`."""
    add_arguments(parser)
    parser.add_argument("--env", help="only this environment")
    parser.add_argument("--service", help="only this service, database, broker or host")


def run(args: argparse.Namespace) -> int:
    """0 when nothing fires, 1 when something does, 3 when no agent answers."""
    try:
        answer = Api(args.url).get("/api/v1/alerts", AlertsAnswer)
    except ApiError as error:
        print(f"gaia alerts: {error}", file=sys.stderr)
        return UNKNOWN
    shown = [
        one for one in answer.alerts if args.env in (None, one.env) and args.service in (None, one.service)
    ]
    if args.json:
        print(msgspec.json.encode(shown).decode())
    elif not shown:
        print("nothing is wrong")
    else:
        for one in shown:
            print(line(one, answer.as_of_s))
    return PROBLEM if any(one.state != "pending" for one in shown) else OK


def line(alert: ActiveAlert, now_s: float) -> str:
    """`firing  page  production/postgres  database_down  since 12:03:20 UTC (3 min): ...`."""
    called = (
        f"  -> {', '.join(alert.notified)}" if alert.notified else f"  ({alert.muted})" if alert.muted else ""
    )
    taken = f"  taken by {alert.acknowledged_by}" if alert.acknowledged_by else ""
    return (
        f"{alert.state:<10} {alert.severity:<4}  {alert.env}/{alert.service}  {alert.name}  "
        f"since {clock(alert.since_s)} ({span(now_s - alert.since_s)}): {alert.summary}{called}{taken}"
    )
