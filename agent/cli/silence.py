"""`gaia silence`: keep alerts quiet for a while, with a name and a reason, and say when it ends."""

from __future__ import annotations

import argparse
import getpass
import sys
import time

import msgspec

from agent.cli import OK, UNKNOWN
from agent.cli.api import Api, ApiError, add_arguments
from agent.web.answers import SilencesAnswer
from alerts.notifiers.webhook import rfc3339
from alerts.receiver import wall_s
from alerts.silence import parse_matchers
from alerts.words import clock, day
from checks.units import Duration


class _Added(msgspec.Struct):
    id: str = msgspec.field(name="silenceID")


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `gaia silence add|list|expire`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="keep what matches quiet")
    add.add_argument("matchers", nargs="+", help="""service=auth, alertname=~"slow.*" """)
    add.add_argument("--for", dest="lasts", required=True, help="how long, such as 30m or 2h; it must end")
    add.add_argument("--starts", metavar="TIME", help="when, such as 2026-11-28T22:00:00Z (default: now)")
    add.add_argument("--comment", required=True, help="why")
    add.add_argument("--with-dependents", action="store_true", help="and whatever depends on it")
    add.add_argument("--until-resolved", action="store_true", help="ends by itself when all of it is well")
    add.add_argument("--author", help="who (default: the name you are logged in with)")
    show = actions.add_parser("list", help="show silences that are or will be in force")
    show.add_argument("--all", action="store_true", help="also those that ended")
    end = actions.add_parser("expire", help="end silences now")
    end.add_argument("ids", nargs="+", metavar="ID")
    for action in (add, show, end):
        add_arguments(action)


def run(args: argparse.Namespace) -> int:
    """0 when done, 3 when refused or no agent answers."""
    try:
        api = Api(args.url)
        match args.action:
            case "add":
                return _add(api, args)
            case "expire":
                return _expire(api, args)
            case _:
                return _list(api, args)
    except (ApiError, ValueError) as error:
        print(f"gaia silence: {error}", file=sys.stderr)
        return UNKNOWN


def _add(api: Api, args: argparse.Namespace) -> int:
    starts_s = wall_s(args.starts) if args.starts is not None else time.time()
    ends_s = starts_s + Duration.parse(args.lasts)
    body = {
        "matchers": [one for text in args.matchers for one in parse_matchers(text)],
        "startsAt": rfc3339(starts_s),
        "endsAt": rfc3339(ends_s),
        "createdBy": args.author or getpass.getuser(),
        "comment": args.comment,
        "coversDependents": args.with_dependents,
        "expireOnResolve": args.until_resolved,
    }
    added = api.send("POST", "/api/v2/silences", body, _Added)
    planned = f" from {day(starts_s)} {clock(starts_s)}" if args.starts is not None else ""
    said = f"{added.id}{planned} until {day(ends_s)} {clock(ends_s)}"
    print(msgspec.json.encode(added).decode() if args.json else said)
    return OK


def _expire(api: Api, args: argparse.Namespace) -> int:
    for identity in args.ids:
        api.call("DELETE", f"/api/v2/silence/{identity}")
        if not args.json:
            print(f"ended {identity}")
    if args.json:
        print(msgspec.json.encode({"ended": args.ids}).decode())
    return OK


def _list(api: Api, args: argparse.Namespace) -> int:
    now_s = time.time()
    answer = api.get("/api/v1/silences", SilencesAnswer)
    shown = [one for one in answer.silences if args.all or one.ends_s > now_s]
    if args.json:
        print(msgspec.json.encode(shown).decode())
        return OK
    for one in shown:
        span = f"{_from(one.starts_s, now_s)}  until {day(one.ends_s)} {clock(one.ends_s)}"
        print(f"{one.id}  {', '.join(one.matchers)}{span}  {one.author}: {one.comment}")
    if not shown:
        print("no silence is in force")
    return OK


def _from(starts_s: float, now_s: float) -> str:
    return f"  from {day(starts_s)} {clock(starts_s)}" if starts_s > now_s + 1 else ""
