"""`gaia notify test`: send a test message to a receiver and say, channel by channel, whether it was taken."""

from __future__ import annotations

import argparse
import getpass
import sys
import time

import msgspec

from agent.cli import OK, PROBLEM, UNKNOWN
from agent.cli.api import Api, ApiError, add_arguments
from alerts.desk import DeliveryEntry

_STEP_S = 0.1


class _Queued(msgspec.Struct):
    channels: tuple[str, ...]
    episode: str


class _Deliveries(msgspec.Struct):
    deliveries: tuple[DeliveryEntry, ...]


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `gaia notify test`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    test = actions.add_parser("test", help="send a test message")
    test.add_argument("receiver", help="the receiver's name in gaia.yaml")
    test.add_argument("--author", help="who asks (default: the name you are logged in with)")
    test.add_argument("--within", type=float, default=15.0, help="seconds to wait for it to be taken")
    add_arguments(test)


def run(args: argparse.Namespace) -> int:
    """0 when every channel took it, 1 when one did not, 3 when there is no such receiver or no agent."""
    try:
        api = Api(args.url)
        body = {"receiver": args.receiver, "author": args.author or getpass.getuser()}
        queued = api.send("POST", "/api/v1/notify/test", body, _Queued)
        rows = _awaited(api, queued.episode, args.within)
    except ApiError as error:
        print(f"gaia notify: {error}", file=sys.stderr)
        return UNKNOWN
    if args.json:
        print(msgspec.json.encode(rows).decode())
    for row in () if args.json else rows:
        took = f" after {row.ended_s - row.queued_s:.2f} s" if row.ended_s is not None else ""
        print(f"{row.channel}: {row.state}{took}{': ' + row.error if row.error else ''}")
    return OK if rows and all(row.state == "sent" for row in rows) else PROBLEM


def _awaited(api: Api, episode: str, within_s: float) -> tuple[DeliveryEntry, ...]:
    end_s = time.monotonic() + within_s
    while True:
        rows = api.get(f"/api/v1/deliveries?episode={episode}", _Deliveries).deliveries
        if all(row.state != "queued" for row in rows) or time.monotonic() > end_s:
            return rows
        time.sleep(_STEP_S)
