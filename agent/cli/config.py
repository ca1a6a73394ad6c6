"""`gaia config show`: what is in effect in one environment, and where each value comes from."""

from __future__ import annotations

import argparse
import os
import sys
from fnmatch import fnmatchcase
from pathlib import Path

from agent.cli import OK, UNKNOWN, defaults
from agent.platform.problem import PlatformError


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `gaia config`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    line = "print every value in effect, secrets covered"
    add = actions.add_parser("show", help=line, description=line).add_argument
    add("key", nargs="?", default="", help="only this table or key, such as services.gateway; * matches")
    add("--config", type=Path, default=defaults.config(), metavar="FILE", help="the platform file")
    add("--overlay", type=Path, metavar="FILE", help="a second file, laid key by key over the first")
    add("--env", metavar="ENV", help="whose values (may be left out when there is one)")
    add("--origin", action="store_true", help="also say where each value comes from")
    add("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """0 when shown; 3 when the file cannot be used or the environment is not clear."""
    from agent.platform.load import read_files, resolve
    from agent.platform.settings_shown import settings

    try:
        root, files = read_files(args.config, args.overlay)
        platform = resolve(root, files=files, environ=os.environ)
        if args.env is None and len(platform.scopes) > 1:
            print(
                f"gaia config: name one environment with --env: {', '.join(platform.scopes)}", file=sys.stderr
            )
            return UNKNOWN
        # A variable that is not set does not matter here: its name is shown in its place.
        scope = platform.scopes[platform.name_of(args.env or next(iter(platform.scopes)))]
    except PlatformError as error:
        print(error, file=sys.stderr)
        return UNKNOWN
    found = [it for it in settings(scope, root) if _wanted(it.key, args.key)]
    if not found:
        print(f'gaia config: nothing is called "{args.key}"', file=sys.stderr)
        return UNKNOWN
    if args.json:
        import json

        print(json.dumps({it.key: {"value": it.value, "origin": it.origin} for it in found}, indent=2))
        return OK
    wide = max(len(it.key) + len(it.value) for it in found) + 2 if args.origin else 0
    for it in found:
        line = f"{it.key}: {it.value}"
        print(f"{line:{min(wide, 100)}}  # {it.origin}" if args.origin else line)
    return OK


def _wanted(key: str, pattern: str) -> bool:
    return not pattern or key == pattern or key.startswith(f"{pattern}.") or fnmatchcase(key, pattern)
