"""A served judgement on a virtual clock: what the commands about alerts ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

import pytest

from agent.cli import main
from agent.desk_routes import desk_routes
from agent.judgement import Judgement
from agent.shown_alerts import active_alert, shown_silence
from agent.web.server import WebOptions, serving
from agent.web.source import ActiveAlert, Silence
from alerts.plan import Graph
from alerts.receiver import Receiver
from checks.secret import Secret
from tests.agent.web.platform import Platform
from tests.alerts.test_alertmanager_api import WorldDesk
from tests.alerts.world import World, plan

TOKEN = "open-sesame"


class Desk(WorldDesk):
    """One environment, as the page reads it too."""

    def __init__(self, receivers: dict[str, Receiver] | None = None) -> None:
        self.world = World(plan(receivers=receivers) if receivers is not None else None)
        self.world.pass_s(30)
        self.graph = Graph(self.world.plan.dependencies)


@dataclass(slots=True, kw_only=True)
class Source(Platform):
    """The desk's alerts and silences, at its time."""

    desk: Desk

    def now_s(self) -> float:
        return self.desk.world.now_s

    def alerts(self) -> tuple[ActiveAlert, ...]:
        judgement = cast("Judgement", self.desk)
        return tuple(active_alert(view, self.desk.env, judgement) for view in self.desk.judge.active())

    def silences(self) -> tuple[Silence, ...]:
        return tuple(shown_silence(one) for one in self.desk.judge.silences())


class Shell:
    """Runs commands against one agent."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def __call__(self, *words: str) -> int:
        return await asyncio.to_thread(main, [*words, "--url", self.url])


@asynccontextmanager
async def served(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shell]:
    """A shell whose commands reach the desk, with the token."""
    monkeypatch.setenv("GAIA_TOKEN", TOKEN)
    options = WebOptions(port=0, token=Secret(TOKEN))
    routes = desk_routes(lambda: (desk,))
    async with serving(Source(desk=desk), options, more=routes) as port:
        yield Shell(f"http://127.0.0.1:{port}")
