"""The health document: background checks, never a wait, never a pass for what is unknown."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from services.instrumentation.health import Criticality, Dependency, Health, Reading, Result, Status
from services.instrumentation.kit import Instrumentation
from services.instrumentation.metrics import Metrics
from services.instrumentation.settings import Settings
from tests.services.running import PLATFORM_KEY, environment, serving
from tests.waiting import until


def dependency(
    name: str, status: Status | None, criticality: Criticality, *, own: bool = False
) -> Dependency:
    """One that answers at once; None hangs."""

    async def probe() -> Reading:
        if status is None:
            await asyncio.Event().wait()
        assert status is not None
        return Reading(status=status, output="" if status is Status.PASS else "unwell", value=1.0)

    return Dependency(
        name=name, component_type="datastore", criticality=criticality, probe=probe, timeout_s=0.1, own=own
    )


PASS, WARN, FAIL = Status.PASS, Status.WARN, Status.FAIL


@pytest.mark.parametrize(
    ("status", "criticality", "overall", "code"),
    [
        (PASS, Criticality.REQUIRED, "pass", 200),
        (WARN, Criticality.REQUIRED, "warn", 200),
        (FAIL, Criticality.REQUIRED, "fail", 503),
        (FAIL, Criticality.DEGRADED, "warn", 200),
        (FAIL, Criticality.INFO, "pass", 200),
        (None, Criticality.REQUIRED, "fail", 503),
    ],
)
async def test_a_dependency_counts_as_much_as_it_matters(
    status: Status | None,
    criticality: Criticality,
    overall: str,
    code: int,
    tmp_path: Path,
    http: aiohttp.ClientSession,
) -> None:
    def build(kit: Instrumentation) -> web.Application:
        kit.depends_on(dependency("thing:state", status, criticality))
        app = web.Application()
        kit.attach(app)
        return app

    async with serving("shop", environment(), tmp_path, build) as running:
        await until(lambda: running.kit.health.results)
        async with http.get(f"{running.url}/health") as response:
            document = await response.json(content_type="application/health+json")
        assert (response.status, document["status"]) == (code, overall)
        assert document["checks"]["thing:state"][0]["status"] == (status or FAIL).value


async def test_scenario_06_one_hung_dependency_delays_neither_the_document_nor_the_others(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    def build(kit: Instrumentation) -> web.Application:
        kit.depends_on(dependency("hung:state", None, Criticality.DEGRADED))
        kit.depends_on(dependency("well:state", PASS, Criticality.REQUIRED))
        app = web.Application()
        kit.attach(app)
        return app

    async with serving("shop", environment(), tmp_path, build) as running:
        await until(lambda: len(running.kit.health.results) == 2)
        start_s = time.monotonic()
        async with http.get(f"{running.url}/health") as response:
            document = await response.json(content_type="application/health+json")
        assert time.monotonic() - start_s < 0.2
        assert document["status"] == "warn"
        assert document["output"] == "warn because of hung:state"
        assert document["checks"]["hung:state"][0]["output"] == "no answer within 0.1 s"
        assert document["checks"]["well:state"][0]["ageSeconds"] < 1


def health_of(results: dict[str, tuple[Status, float]]) -> Health:
    health = Health(interval_s=2.0, metrics=Metrics(Settings.from_environment("shop", {})))
    for name, (status, age_s) in results.items():
        health.add(dependency(name, status, Criticality.REQUIRED, own=True))
        if age_s >= 0:
            health.results[name] = Result(
                reading=Reading(status=status), at_wall_s=0.0, at_s=time.monotonic() - age_s
            )
    return health


def test_unknown_and_stale_are_never_a_pass() -> None:
    assert health_of({"a:b": (PASS, -1)}).overall() == (WARN, ("a:b",))
    assert health_of({"a:b": (PASS, 60)}).overall() == (WARN, ("a:b",))
    assert health_of({"a:b": (FAIL, 60)}).overall() == (FAIL, ("a:b",))
    assert health_of({"a:b": (PASS, 1)}).overall() == (PASS, ())


def test_ready_is_started_with_its_own_resources_and_not_draining() -> None:
    health = health_of({"a:b": (PASS, 0)})
    missing: list[str] = ["the migrations"]
    health.add_startup(lambda: missing[0] if missing else None)
    assert health.not_ready() == "the migrations"
    missing.clear()
    assert health.not_ready() is None
    health.draining = True
    assert health.not_ready() == "draining"
    assert health_of({"a:b": (FAIL, 0)}).not_ready() == "a:b: "


async def test_a_suspicion_is_looked_into_at_once() -> None:
    looks = 0

    async def probe() -> Reading:
        nonlocal looks
        looks += 1
        return Reading(status=PASS)

    health = Health(interval_s=60.0, metrics=Metrics(Settings.from_environment("shop", {})))
    health.add(Dependency(name="a:b", component_type="x", criticality=Criticality.REQUIRED, probe=probe))
    task = asyncio.create_task(health.run())
    await until(lambda: looks == 1)
    health.suspect("a:b")
    await until(lambda: looks == 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_public_sees_the_status_only_insiders_the_details(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    def build(kit: Instrumentation) -> web.Application:
        kit.depends_on(dependency("db:state", FAIL, Criticality.REQUIRED))
        app = web.Application()
        kit.attach(app)
        return app

    async with serving("shop", environment(), tmp_path, build) as running:
        await until(lambda: running.kit.health.results)

        async def keys(headers: dict[str, str]) -> set[str]:
            async with http.get(f"{running.url}/health", headers=headers) as response:
                return set(await response.json(content_type="application/health+json"))

        assert "checks" in await keys({})
        assert await keys({"Fly-Client-IP": "203.0.113.9"}) == {"status"}
        assert await keys({"X-API-Key": "wrong"}) == {"status"}
        assert "checks" in await keys({"X-API-Key": PLATFORM_KEY, "Fly-Client-IP": "203.0.113.9"})


SPRING = {"status": "DOWN", "details": {"output": "unwell"}}
MICROPROFILE = {"name": "db:state", "status": "DOWN", "data": {"output": "unwell"}}
ASPNET = {"status": "Unhealthy", "description": "unwell"}


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [
        ("spring", {"status": "DOWN", "components": {"db:state": SPRING}}),
        ("microprofile", {"status": "DOWN", "checks": [MICROPROFILE]}),
        ("aspnet", {"status": "Unhealthy", "totalDuration": "00:00:00", "entries": {"db:state": ASPNET}}),
    ],
)  # fmt: skip
async def test_the_document_speaks_other_dialects(
    dialect: str, expected: dict[str, object], tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    def build(kit: Instrumentation) -> web.Application:
        kit.depends_on(dependency("db:state", FAIL, Criticality.REQUIRED, own=True))
        app = web.Application()
        kit.attach(app)
        return app

    async with serving("shop", environment(), tmp_path, build) as running:
        await until(lambda: running.kit.health.results)
        async with http.get(f"{running.url}/health?format={dialect}") as response:
            assert (response.status, await response.json()) == (503, expected)
        async with http.get(f"{running.url}/readyz?verbose") as response:
            assert (
                await response.text() == "[-]db:state fail: unwell\nreadyz check failed: db:state: unwell\n"
            )


async def test_a_probe_that_swallows_its_cancellation_does_not_hold_up_the_stop() -> None:
    async def probe() -> Reading:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise TimeoutError from None  # As nats-py's flush() does.
        raise AssertionError

    health = Health(interval_s=60.0, metrics=Metrics(Settings.from_environment("shop", {})))
    health.add(Dependency(name="a:b", component_type="x", criticality=Criticality.REQUIRED, probe=probe))
    task = asyncio.create_task(health.run())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    async with asyncio.timeout(1):
        await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
