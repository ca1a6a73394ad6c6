"""What the pages read: one narrow view of the running agent, and the values it hands out."""

from __future__ import annotations

from typing import Protocol

import msgspec

from agent.board import Board
from agent.exposition.document import Document
from agent.history import PastDay, PastLook
from agent.past_failures import PastFailure
from agent.telemetry.red import RedView
from checks.finding import Evidence, State
from checks.target import TargetKey


class EnvironmentInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One environment of gaia.yaml that this agent watches, in the file's order.

    `alerts` is the name of its policy (`none`, `basic`, `comprehensive`, or the user's own).
    """

    name: str
    alias: str
    interval_s: float
    alerts: str
    pages: bool = True  # Whether anybody is called from here: False under the policy `none`.


class ActiveAlert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert instance that is not OK.

    `state` is pending, firing or recovering; `since_s` the wall second it became so, `fired_s` when it
    fired (None while pending). `value` and `threshold` are written with their units; `stale_s` is the
    wall second since when nothing fresh is known (the alert then keeps its state). `cause` is the `id` of
    the alert this one follows from, `affected` names the services that follow from this one. `notified`
    has one line per receiver that took it; `muted` says why nobody is called, if so.
    """

    id: str
    name: str
    env: str
    service: str
    severity: str
    state: str
    since_s: float
    title: str
    summary: str
    fired_s: float | None = None
    value: str = ""
    threshold: str = ""
    stale_s: float | None = None
    check: str = ""
    evidence: tuple[Evidence, ...] = ()
    cause: str = ""
    affected: tuple[str, ...] = ()
    incident: str = ""
    first_step: str = ""
    runbook: str = ""
    notified: tuple[str, ...] = ()
    acknowledged_by: str = ""
    muted: str = ""


class IncidentEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an incident's story."""

    at_s: float
    text: str


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """One episode from first fire to resolve; `resolved_s` is None while it lasts."""

    id: str
    env: str
    service: str
    title: str
    severity: str
    started_s: float
    resolved_s: float | None = None
    acknowledged_by: str = ""
    affected: tuple[str, ...] = ()
    entries: tuple[IncidentEntry, ...] = ()


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """Alerts matching `matchers` call nobody between the two wall seconds."""

    id: str
    matchers: tuple[str, ...]
    starts_s: float
    ends_s: float
    author: str
    comment: str


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was done to the platform: a deploy, a reload, a scaling. `at_s` is wall time."""

    at_s: float
    env: str
    service: str
    kind: str
    text: str
    author: str = ""
    version: str = ""
    url: str = ""


class AgentPart(msgspec.Struct, frozen=True, kw_only=True):
    """One part of the agent (history, receiver `on_call`, telemetry log, …) and how it is."""

    name: str
    state: State
    text: str


class AgentStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The agent on itself.

    `ready` turns true once every part that was asked for runs. `loop_lag_s` is the worst lateness of the
    event loop in the last minute, `late_probes` how many looks of the last minute missed their slot.
    `config_problem` is the sentence of the last reload that was refused, None when all is applied;
    `config_checked_s` is when the file was last read, whatever came of it.
    """

    version: str
    started_s: float
    ready: bool
    config_hash: str
    config_loaded_s: float
    config_problem: str | None = None
    config_checked_s: float = 0.0
    targets: int = 0
    late_probes: int = 0
    loop_lag_s: float = 0.0
    undelivered: int = 0
    oldest_undelivered_s: float | None = None
    parts: tuple[AgentPart, ...] = ()


class Source(Protocol):
    """The agent, as the web reads it.

    Everything is called on the agent's event loop. What is not async returns at once, from memory, values
    that nobody changes afterwards (rows of the board apart, which are read before the next await).
    """

    @property
    def platform(self) -> str:
        """The platform's name in gaia.yaml."""
        ...

    @property
    def environments(self) -> tuple[EnvironmentInfo, ...]:
        """Those this agent watches, in the file's order; changes with a reload."""
        ...

    @property
    def board(self) -> Board:
        """Rows and events."""
        ...

    @property
    def document(self) -> Document:
        """The series of `/metrics`."""
        ...

    def now_s(self) -> float:
        """Wall seconds."""
        ...

    def before_scrape(self) -> None:
        """Bring the series that are computed on demand (ages, the agent's own) up to date."""
        ...

    def red(self, env: str, service: str) -> RedView | None:
        """Rate, errors and duration of the last five minutes; None where no traffic is measured."""
        ...

    def alerts(self) -> tuple[ActiveAlert, ...]:
        """Every alert that is not OK, in no order."""
        ...

    def silences(self) -> tuple[Silence, ...]:
        """Those active or planned."""
        ...

    def changes(self) -> tuple[Change, ...]:
        """The newest 200, newest first."""
        ...

    def agent(self) -> AgentStatus:
        """The agent on itself."""
        ...

    def config(self) -> bytes:
        """The effective configuration as a JSON document, secrets masked."""
        ...

    async def incidents(self, *, limit: int) -> tuple[Incident, ...]:
        """The newest `limit` incidents, newest first."""
        ...

    async def looks(self, key: TargetKey, *, since_s: float, limit: int) -> tuple[PastLook, ...]:
        """Past looks, oldest first."""
        ...

    async def failures(self, key: TargetKey, *, limit: int) -> tuple[PastFailure, ...]:
        """Past failures with their evidence, newest first."""
        ...

    async def days(self, key: TargetKey, *, days: int) -> tuple[PastDay, ...]:
        """Looks by UTC day and state, oldest first."""
        ...

    async def add_change(self, change: Change) -> None:
        """Record a change durably and emit its event."""
        ...
