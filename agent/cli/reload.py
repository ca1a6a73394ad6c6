"""`gaia reload`: have the running agent read its file again, and say what came of it."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from agent.cli import OK, UNKNOWN, defaults
from agent.cli.api import Api, ApiError
from agent.web.source import AgentStatus

_WITHIN_S: Final = 10.0
_STEP_S: Final = 0.05


class _Status(msgspec.Struct):
    agent: AgentStatus


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `gaia reload`."""
    parser.add_argument("--data", type=Path, default=defaults.data(), help="the agent's data directory")
    parser.add_argument("--url", default=defaults.url(), help="the agent's address (default %(default)s)")


def run(args: argparse.Namespace) -> int:
    """0 when the new configuration is in force, 3 when it was refused or no agent runs."""
    path = args.data / "agent.pid"
    try:
        pid = int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        print(f"gaia reload: no agent runs with data in {args.data} ({path} names none)", file=sys.stderr)
        return UNKNOWN
    try:
        api = Api(args.url)
        before = _agent(api)
        os.kill(pid, signal.SIGHUP)
        deadline_s = time.monotonic() + _WITHIN_S
        while time.monotonic() < deadline_s:
            now = _agent(api)
            if now.config_checked_s != before.config_checked_s:
                return _told(now)
            time.sleep(_STEP_S)
    except (ApiError, OSError) as error:
        print(f"gaia reload: {error}", file=sys.stderr)
        return UNKNOWN
    print(f"gaia reload: no answer within {_WITHIN_S:g} s; see the agent's log", file=sys.stderr)
    return UNKNOWN


def _agent(api: Api) -> AgentStatus:
    return api.get("/api/v1/status", _Status).agent


def _told(now: AgentStatus) -> int:
    if now.config_problem is None:
        print(f"configuration {now.config_hash} is in force")
        return OK
    print(now.config_problem, file=sys.stderr)
    print(f"refused; the old configuration {now.config_hash} stays in force", file=sys.stderr)
    return UNKNOWN
