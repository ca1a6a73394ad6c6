"""`gaia ack`: take an alert; reminders and escalation stop until the ack expires."""

from __future__ import annotations

import argparse
import getpass
import sys

import msgspec

from agent.cli import OK, UNKNOWN
from agent.cli.api import Api, ApiError, add_arguments
from checks.units import Duration


class _Answer(msgspec.Struct):
    episodes: tuple[str, ...]


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `gaia ack`."""
    parser.add_argument("alert", help="a rule's name, a service, a fingerprint or an episode")
    parser.add_argument("--for", dest="lasts", default="4h", help="how long you take it for (default 4h)")
    parser.add_argument("--author", help="who takes it (default: the name you are logged in with)")
    add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """0 when it was taken, 3 when nobody was called for it or no agent answers."""
    try:
        body = {
            "alert": args.alert,
            "author": args.author or _me(),
            "lasts_s": float(Duration.parse(args.lasts)),
        }
        answer = Api(args.url).send("POST", "/api/v1/acks", body, _Answer)
    except (ApiError, ValueError) as error:
        print(f"gaia ack: {error}", file=sys.stderr)
        return UNKNOWN
    if args.json:
        print(msgspec.json.encode(answer).decode())
    else:
        print(f"{body['author']} took {', '.join(answer.episodes)} for {args.lasts}")
    return OK


def _me() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "somebody"
