"""`gaia dlq`: what a backend would never take; look at it, have it sent again, or drop it."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from agent.cli import OK, PROBLEM, UNKNOWN, defaults
from agent.telemetry.dead_letters import DeadLetters, Letter
from agent.telemetry.redaction import redact

HELP: Final = "telemetry a backend refused: list, show, replay or drop it"
DIRECTORY: Final = "telemetry"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `gaia dlq`."""
    parser.add_argument("--data", type=Path, default=defaults.data(), help="the agent's data directory")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ls|show|replay|drop")
    listing = actions.add_parser("ls", help="what is put aside, oldest first; exit 1 when there is any")
    listing.add_argument("--json", action="store_true", help="one JSON array")
    show = actions.add_parser("show", help="one of them, redacted")
    show.add_argument("id", help="as `gaia dlq ls` shows it")
    for name, line in (
        ("replay", "have the agent send it again, now or when it next runs"),
        ("drop", "remove it for good"),
    ):
        action = actions.add_parser(name, help=line)
        action.add_argument("id", nargs="*", help="as `gaia dlq ls` shows it")
        action.add_argument("--all", action="store_true", help="every one of them")


def run(args: argparse.Namespace) -> int:
    """Run one action."""
    letters = DeadLetters(args.data / DIRECTORY / "dead")
    match args.action:
        case "ls":
            return _list(letters, json=args.json)
        case "show":
            return _show(letters, args.id)
        case _:
            names = [letter.id for letter in letters.letters()] if args.all else args.id
            return _each(letters, args.action, names)


def _list(letters: DeadLetters, *, json: bool) -> int:
    found = tuple(letters.letters())
    if json:
        rows = [
            {"id": letter.id, "bytes": letter.bytes, "waiting": letter.waiting}
            | msgspec.structs.asdict(letter.label)
            for letter in found
        ]
        print(msgspec.json.encode(rows).decode())
    else:
        for letter in found:
            print(_line(letter))
        if not found:
            print("nothing is put aside")
    return PROBLEM if found else OK


def _line(letter: Letter) -> str:
    label = letter.label
    at = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(label.at_s))
    answer = f"HTTP {label.status} " if label.status else ""
    waiting = ", to be sent again" if letter.waiting else ""
    said = " ".join(redact(label.answer).split())[:80]
    return (
        f"{letter.id}  {at}  {label.destination}  {label.items} items of {label.signal.value}"
        f"  {label.reason}{waiting}  {answer}{said}".rstrip()
    )


def _show(letters: DeadLetters, name: str) -> int:
    from agent.telemetry.schema import as_text

    found = next((letter for letter in letters.letters() if letter.id == name), None)
    if found is None:
        return _unknown(name)
    try:
        body = letters.body(name)
    except ValueError as error:
        print(f"gaia dlq: {error}", file=sys.stderr)
        return UNKNOWN
    print(_line(found))
    print(redact(as_text(found.label.signal, body)))
    return OK


def _each(letters: DeadLetters, action: str, names: list[str]) -> int:
    if not names:
        print(f"gaia dlq {action}: name what `gaia dlq ls` shows, or --all", file=sys.stderr)
        return UNKNOWN
    for name in names:
        try:
            if action == "replay":
                letters.retry(name)
            else:
                letters.drop(name)
        except KeyError:
            return _unknown(name)
    print(f"{len(names)} {'to be sent again by the agent' if action == 'replay' else 'dropped'}")
    return OK


def _unknown(name: str) -> int:
    print(f"gaia dlq: there is no {name}: see `gaia dlq ls`", file=sys.stderr)
    return UNKNOWN
