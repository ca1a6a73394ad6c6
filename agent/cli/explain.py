"""`gaia explain`: why an alert is as it is, what made each transition, and why somebody was called or not."""

from __future__ import annotations

import argparse
import sys
from urllib.parse import quote

import msgspec

from agent.cli import OK, UNKNOWN
from agent.cli.api import Api, ApiError, add_arguments
from alerts.desk import Explanation
from alerts.words import clock, day


class _Answer(msgspec.Struct):
    alerts: tuple[Explanation, ...]


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `gaia explain`."""
    parser.add_argument("alert", help="a rule's name, a service, a fingerprint or an episode")
    parser.add_argument("--all", action="store_true", help="also the alerts of that name that are well")
    add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """0 when there is something to explain, 3 when there is no such alert or no agent."""
    try:
        answer = Api(args.url).get(f"/api/v1/explain?alert={quote(args.alert)}", _Answer)
    except ApiError as error:
        print(f"gaia explain: {error}", file=sys.stderr)
        return UNKNOWN
    told = [one for one in answer.alerts if args.all or one.trail or one.state != "ok"] or answer.alerts[:1]
    if args.json:
        print(msgspec.json.encode(told).decode())
    else:
        print("\n\n".join("\n".join(lines(one)) for one in told))
    return OK


def lines(one: Explanation) -> list[str]:
    """The story of one alert."""
    place = f"{one.alertname} of {one.env}/{one.service}"
    found = [f"{place}: {one.state}, severity {one.severity}, signal {one.signal}"]
    if one.evidence:
        found.append(f"  now       {one.evidence}")
    found.append(f"  why       {one.why}")
    found.extend(
        f"  {day(entry.at_s)} {clock(entry.at_s)}  {entry.what:<10} {entry.text}" for entry in one.trail
    )
    for sent in one.deliveries:
        took = f" after {sent.ended_s - sent.queued_s:.2f} s" if sent.ended_s is not None else ""
        failed = f", {sent.attempts} attempts, last: {sent.error}" if sent.error else ""
        found.append(f"  {clock(sent.queued_s)}  {sent.kind} to {sent.channel}: {sent.state}{took}{failed}")
    return found
