"""`gaia report`: which rules called, what somebody acted on, and what would have spared the rest."""

from __future__ import annotations

import argparse
import sys
from urllib.parse import urlencode

import msgspec

from agent.cli import OK, UNKNOWN
from agent.cli.api import Api, ApiError, add_arguments
from alerts.noise import NoiseReport
from alerts.noise_words import headline, lines
from checks.units import Duration


class _Answer(msgspec.Struct):
    reports: tuple[NoiseReport, ...]


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `gaia report`."""
    parser.add_argument("--last", default="7d", help="how far back (default 7d; the agent keeps 30d)")
    parser.add_argument("--env", help="only this environment")
    add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """0 when there is a report; 3 for a time that is none, an unknown environment, or no agent."""
    try:
        query = {"last_s": str(float(Duration.parse(args.last)))}
        if args.env is not None:
            query["env"] = args.env
        answer = Api(args.url).get(f"/api/v1/report?{urlencode(query)}", _Answer)
    except (ApiError, ValueError) as error:
        print(f"gaia report: {error}", file=sys.stderr)
        return UNKNOWN
    if args.json:
        print(msgspec.json.encode(answer.reports).decode())
        return OK
    for report in answer.reports:
        print(f"{report.env}, {headline(report)}")
        for line in lines(report):
            print(f"  {line}")
    return OK
