"""`gaia reload`: have the running agent read its file again, and say what came of it."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

from agent.cli import OK, UNKNOWN
from agent.cli.api import Api, ApiError

_WITHIN_S: Final = 10.0
_STEP_S: Final = 0.05


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `gaia reload`."""
    parser.add_argument("--data", type=Path, default=Path(".gaia"), help="the agent's data directory")
    parser.add_argument("--url", default="http://127.0.0.1:9877", help="the agent's address")


def run(args: argparse.Namespace) -> int:
    """0 when the new configuration is in force, 3 when it was refused or no agent runs."""
    path = args.data / "agent.pid"
    try:
        pid = int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        print(f"gaia reload: no agent runs with data in {args.data} ({path} names none)", file=sys.stderr)
        return UNKNOWN
    api = Api(args.url)
    try:
        before = api.agent()
        os.kill(pid, signal.SIGHUP)
        deadline_s = time.monotonic() + _WITHIN_S
        while time.monotonic() < deadline_s:
            now = api.agent()
            if now["config_loaded_s"] != before["config_loaded_s"]:
                print(f"configuration {now['config_hash']} is in force")
                return OK
            if now["config_problem"] and now["config_checked_s"] != before["config_checked_s"]:
                print(
                    f"{now['config_problem']}\nthe old configuration {now['config_hash']} stays in force",
                    file=sys.stderr,
                )
                return UNKNOWN
            time.sleep(_STEP_S)
    except (ApiError, OSError) as error:
        print(f"gaia reload: {error}", file=sys.stderr)
        return UNKNOWN
    print(f"gaia reload: no answer within {_WITHIN_S:g} s; see the agent's log", file=sys.stderr)
    return UNKNOWN
