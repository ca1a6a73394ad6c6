"""The repository's own file in development, where everything may sleep: nothing the agent does wakes it."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec
import pytest

from agent.board import Row
from agent.platform.load import load
from agent.platform.scope import Scope
from agent.prober import Look, Watch
from agent.scraping import _sources
from agent.watches import watches
from agent.watching import Watching
from alerts.requests import RequestSample
from checks.apps import Asker, proxied_app
from checks.catalog import ProbeKit, kind
from checks.clock import SystemClock
from checks.finding import Finding, State
from checks.machines.api import Machine
from checks.observation import Observation, observe
from checks.postgres.options import PostgresOptions
from checks.reason import Reason
from checks.target import Kind
from checks.verdict import Verdict

FILE = Path(__file__).resolve().parents[2] / "gaia.yaml"
ENVIRON = {
    "DATABASE_URL": "postgresql://gaia@gaia-db-dev.flycast:5432/app",
    "NATS_URL": "nats://127.0.0.1:1",
    "FLY_READ_TOKEN": "fo1_secret",
    "ONCALL_URL": "json://127.0.0.1:1",
}
CYCLES = 100


class Everything:
    """A resolver that notes every name it is asked for, and knows none."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def known(self, host: str) -> tuple[str, ...] | None:
        del host
        return None

    async def addresses(self, host: str) -> tuple[str, ...]:
        if host.replace(".", "").isdigit():
            return (host,)
        self.asked.add(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def development() -> Scope:
    return load(FILE, environ=ENVIRON).scope("development")


def watched(names: Everything) -> tuple[ProbeKit, tuple[Watch, ...]]:
    kit = ProbeKit(clock=SystemClock(), resolver=names)
    return kit, tuple(watches(development(), kit))


def without_waiting(watch: Watch, kit: ProbeKit) -> Watch:
    """The same watch, its name server one that refuses at once instead of never answering."""
    if "nameserver" not in watch.options.__struct_fields__:
        return watch
    options = msgspec.structs.replace(watch.options, nameserver="127.0.0.1", nameserver_port=1)
    check = kind(watch.kind).build(watch.target, options, kit)
    return msgspec.structs.replace(watch, options=options, check=check)


async def test_a_hundred_cycles_over_the_whole_file_ask_nothing_that_could_wake() -> None:
    names = Everything()
    kit, placed = watched(names)
    sleeping = (Machine(id="a1", state="stopped"),)
    assert {watch.kind for watch in placed} >= {"machines", "postgres", "nats", "host"}
    for placed_watch in placed:
        watch = without_waiting(placed_watch, kit)
        for _ in range(CYCLES if watch.kind != "host" else 1):
            for service in ("auth", "asset", "chat", "gateway"):
                kit.apps.saw(f"gaia-{service}-dev", sleeping, at_s=kit.clock.monotonic_s())
            await observe(watch.check, watch.target, deadline_s=2, clock=kit.clock)
        await watch.check.close()
    # Only the control plane was asked for its list. The broker goes by its address.
    assert names.asked == {"api.machines.dev"}


@pytest.mark.parametrize("name", ["gateway", "auth", "asset", "chat"])
def test_no_service_is_probed_or_scraped_through_the_proxy(name: str) -> None:
    service = development().services[name]
    assert service.vantages == ()
    assert _sources(service) == {}
    _, placed = watched(Everything())
    own = [watch for watch in placed if watch.target.key.service == name]
    assert [(watch.kind, watch.target.kind) for watch in own] == [("machines", Kind.MACHINE)]


def test_the_shared_database_is_asked_only_while_an_app_that_needs_it_runs() -> None:
    options = development().databases["postgres"].options
    assert isinstance(options, PostgresOptions)
    assert not options.hold
    assert options.only_while_started == ("gaia-auth-dev", "gaia-asset-dev", "gaia-chat-dev")


def test_where_machines_always_run_the_database_is_asked_always() -> None:
    for env in ("staging", "production"):
        options = load(FILE, environ=ENVIRON).scope(env).databases["postgres"].options
        assert isinstance(options, PostgresOptions)
        assert (options.hold, options.only_while_started) == (True, ())


def test_what_goes_through_the_proxy_is_known_by_its_name() -> None:
    assert proxied_app("https://gaia-auth-dev.fly.dev/health") == "gaia-auth-dev"


AWAKE = """\
platform: p
environments: {dev: {machines: {auto_stop: stop, min: 0}}}
services:
  gateway: {url: "http://127.0.0.1:1", depends_on: [auth]}
  auth: {url: "https://auth-dev.fly.dev", wake: true}
"""


async def test_the_agent_notes_which_of_its_own_looks_may_have_woken_whom(tmp_path: Path) -> None:
    file = tmp_path / "gaia.yaml"
    file.write_text(AWAKE)
    watching = Watching([load(file, environ={}).scope("dev")], SystemClock())
    for watch in watching.watches:
        row = Row(target=watch.target, interval_s=30, slower_than_s=None, depends_on=watch.depends_on)
        finding = Finding(state=State.UP, reason=Reason.OK, message="")
        seen = Observation(target=watch.target, at_s=1000.0, duration_s=0.1, finding=finding)
        watching._looked(
            Look(row=row, observation=seen, before=Verdict(), verdict=Verdict(), lag_s=0.0, missed=0)
        )
    asks = watching.kit.apps.asks(("dev", "auth"))
    assert [(ask.by, ask.what, ask.at_s) for ask in asks] == [
        (Asker.HEALTH, "gateway", 1000.0),
        (Asker.AGENT, "auth", 1000.0),
    ]
    # Nobody asks who woke the gateway: it is not on Fly.
    assert watching.kit.apps.asks(("dev", "gateway")) == ()


async def test_users_requests_are_counted_where_machines_are_looked_after(tmp_path: Path) -> None:
    file = tmp_path / "gaia.yaml"
    file.write_text(AWAKE)
    watching = Watching([load(file, environ={}).scope("dev")], SystemClock())
    for total in (5, 8):
        for service in ("auth", "gateway"):
            watching.requests(
                RequestSample(
                    env="dev", service=service, source="s", at_s=1000.0 + total, incarnation="1",
                    total=total, errors=0,
                )
            )  # fmt: skip
    usage = watching.kit.apps.usage(("dev", "auth"))
    assert usage is not None
    assert (sum(usage.by_hour.values()), usage.last_s) == (3, 1008.0)
    assert watching.kit.apps.usage(("dev", "gateway")) is None
