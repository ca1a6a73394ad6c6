"""What a Fly Postgres machine's own pages add: stubs of :5500 and :8404 beside a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from agent.local.postgres import LocalPostgres
from checks.finding import Finding, State
from checks.postgres.flex import parse_backends, parse_checks
from checks.postgres.options import PostgresOptions
from checks.reason import Reason
from checks.secret import Secret
from checks.units import Duration
from tests.faults.deep.looking import Look, closes, look_once, misbehaving, silent

PG_WELL = (
    "[✓] connections: 12 used, 3 reserved, 300 max (3.1ms)\n"
    "[✓] disk-capacity: 41.5% - readonly mode will be enabled at 90.0% (15.2µs)"
)
VM_WELL = (
    "[✓] checkDisk: 5.2 GB (58.5%) free space on /data/ (20.1µs)\n"
    "[✓] checkLoad: load averages: 0.00 0.01 0.02 (40µs)\n"
    "[✓] memory: system spent 0s of the last 60s waiting on memory (30µs)"
)
HEADER = (
    "# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,wredis,status\n"
)


def row(server: str, status: str) -> str:
    return f"bk_db,{server},0,0,1,5,1000,9,1,1,,0,,0,0,0,0,{status}\n"


PROXY_WELL = (
    HEADER
    + "fe_db,FRONTEND,,,0,1,1000,9,1,1,0,0,0,,,,,OPEN\n"
    + row("fdaa_1", "UP")
    + row("fdaa_2", "DOWN")
    + row("BACKEND", "UP")
)
PROXY_LOST = HEADER + row("fdaa_1", "DOWN") + row("fdaa_2", "MAINT") + row("BACKEND", "DOWN")


@dataclass(slots=True)
class Pages:
    """Both pages of one machine. A text of None is answered by silence."""

    role: str | None = "primary"
    pg: str = PG_WELL
    vm: str = VM_WELL
    proxy: str = PROXY_WELL
    asked: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        self.asked.append(path)
        texts: Mapping[str, str | None] = {
            "/flycheck/role": self.role,
            "/flycheck/pg": self.pg,
            "/flycheck/vm": self.vm,
            "/;csv": self.proxy,
        }
        text = texts[path]
        if text is None:
            await reader.read()
            return
        status = 500 if "✗" in text else 200
        writer.write(f"HTTP/1.1 {status} X\r\n\r\n{text}".encode())
        await writer.drain()


@asynccontextmanager
async def serving(pages: Pages) -> AsyncIterator[dict[str, str]]:
    async with misbehaving(pages.serve) as port:
        url = f"http://127.0.0.1:{port}"
        yield {"flycheck_url": url, "haproxy_url": url}


async def look(server: LocalPostgres, pages: Pages, **more: object) -> Finding:
    async with serving(pages) as urls:
        options = PostgresOptions(
            url=Secret(server.url),
            expected_role="primary",
            **urls,  # type: ignore[arg-type]
            **more,  # type: ignore[arg-type]
        )
        return await look_once("postgres", options)


def numbers(found: Finding) -> dict[str, float]:
    return {
        " ".join((one.name.removeprefix("gaia_postgres_"), *(value for _, value in one.labels))): one.value
        for one in found.measures
    }


async def test_a_well_machine_adds_its_numbers(pg: LocalPostgres) -> None:
    found = await look(pg, Pages())
    assert (found.state, found.reason) == (State.UP, Reason.OK), found.message
    seen = numbers(found)
    assert seen["volume_used_ratio"] == pytest.approx(0.415)
    assert (seen["flex_role primary"], seen["flex_role zombie"]) == (1, 0)
    assert seen["flex_check memory"] == 1
    assert seen["proxy_backends_up"] == 1


CASES = {
    "the volume is nearly full": (
        Pages(pg="[✗] disk-capacity: 91.2% - extend your volume to re-enable writes (9µs)"),
        State.DOWN,
        Reason.PG_READ_ONLY,
        "fails its own check disk-capacity: 91.2% - extend your volume",
    ),
    "the disk is nearly full": (
        Pages(vm="[✗] checkDisk: 512 MB (4.9%) free space on /data/ (9µs)"),
        State.DEGRADED,
        Reason.HOST_DISK,
        "checkDisk: 512 MB (4.9%) free space on /data/",
    ),
    "the load is high": (
        Pages(vm="[✗] checkLoad: 1 minute load average is very high: 22.10 (9µs)"),
        State.DEGRADED,
        Reason.HOST_LOAD,
        "checkLoad: 1 minute load average is very high: 22.10",
    ),
    "tasks wait for the disk": (
        Pages(vm="[✗] io: system spent 2.1s of the last 10 seconds waiting on io (9µs)"),
        State.DEGRADED,
        Reason.HOST_PRESSURE,
        "waiting on io",
    ),
    "a zombie": (Pages(role="zombie"), State.DOWN, Reason.PG_WRONG_ROLE, "is a zombie"),
    "a replica": (Pages(role="replica"), State.DOWN, Reason.PG_WRONG_ROLE, "says it is a replica"),
    "the proxy has lost the primary": (
        Pages(proxy=PROXY_LOST),
        State.DOWN,
        Reason.PG_NO_BACKEND,
        "HAProxy sees no primary behind it (fdaa_1 DOWN, fdaa_2 MAINT)",
    ),
    "the proxy has no server": (
        Pages(proxy=HEADER),
        State.DOWN,
        Reason.PG_NO_BACKEND,
        "HAProxy has no server at all behind it",
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_what_a_machine_says_of_itself_is_told(pg: LocalPostgres, case: str) -> None:
    pages, state, reason, words = CASES[case]
    found = await look(pg, pages)
    assert (found.state, found.reason) == (state, reason), found.message
    assert words in found.message
    assert f"127.0.0.1:{pg.port}" in found.message


async def test_pages_that_cannot_be_read_make_nothing_worse(pg: LocalPostgres) -> None:
    async with misbehaving(silent) as port:
        url = f"http://127.0.0.1:{port}"
        options = PostgresOptions(
            url=Secret(pg.url), flycheck_url=url, haproxy_url=url, answer_within=Duration(0.3)
        )
        found = await look_once("postgres", options)
    assert found.state is State.UP, found.message
    assert "gaia_postgres_volume_used_ratio" not in {one.name for one in found.measures}
    (unknown,) = [one for one in found.evidence if one.name == "unknown: flex"]
    assert unknown.value == f"127.0.0.1:{port} did not answer in time"


async def test_a_page_that_says_something_else_is_no_role_and_no_check(pg: LocalPostgres) -> None:
    found = await look(pg, Pages(role="<html>504</html>", pg="", vm="nonsense", proxy=PROXY_WELL))
    assert found.state is State.UP, found.message
    assert "gaia_postgres_flex_role" not in {one.name for one in found.measures}


async def test_a_proxy_that_closes_is_told_from_one_without_a_primary() -> None:
    for pages, words in (
        (Pages(role="replica", proxy=PROXY_LOST), "leads nowhere: HAProxy sees no primary behind it (fdaa_1"),
        (Pages(proxy=PROXY_WELL), "a proxy is up but has no database behind it"),
    ):
        async with misbehaving(closes) as port, serving(pages) as urls:
            url = Secret(f"postgresql://gaia:pw@127.0.0.1:{port}/app")
            found = await look_once("postgres", PostgresOptions(url=url, **urls))  # type: ignore[arg-type]
        assert (found.state, found.reason) == (State.DOWN, Reason.PG_NO_BACKEND)
        assert words in found.message
        assert any(one.value == f"its own checks say: {pages.role}" for one in found.evidence)


async def test_pages_are_read_now_and_then_not_at_every_look(pg: LocalPostgres) -> None:
    pages = Pages()
    async with serving(pages) as urls:
        options = PostgresOptions(url=Secret(pg.url), **urls)  # type: ignore[arg-type]
        async with Look("postgres", options) as one:
            await one.look(5)
    assert sorted(pages.asked) == ["/;csv", "/flycheck/pg", "/flycheck/role", "/flycheck/vm"]


@pytest.mark.parametrize(
    "text", ["", "[", "[✓]", "[✓] name", "[✗] : ()", "\0" * 50, "a,b\n1", "# pxname\n\n,,"]
)
def test_any_text_is_read_without_a_fault(text: str) -> None:
    assert isinstance(parse_checks(text), tuple)
    assert isinstance(parse_backends(text), tuple)
