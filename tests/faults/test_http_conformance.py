"""Every misbehaving HTTP origin gets its exact verdict, in time, with flat memory."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from checks.catalog import ProbeKit, kind
from checks.clock import SystemClock
from checks.finding import State
from checks.http.options import Expect
from checks.observation import Observation
from checks.resolver import CachingResolver
from checks.target import Kind, Target, TargetKey
from tests.blackbox_exporter import ask, blackbox_exporter
from tests.faults.http_cases import BEHAVIOURS, CASES, MEGABYTE, STRICT, Case
from tests.faults.origin import served
from tests.flown import WAYS

# No look may hold more than this beside the answer itself, whatever the origin sends.
MOST_MEMORY = 12 * MEGABYTE


def decode(hint: type, value: Any) -> Any:
    return hint(value)


def options(port: int, case: Case) -> Any:
    table = {"url": f"http://127.0.0.1:{port}/{case.name}{case.path}", "timeout": 2.0, **case.options}
    text = msgspec.json.encode(table).decode().replace("{port}", str(port))
    return msgspec.convert(msgspec.json.decode(text), kind("http").options, dec_hook=decode)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with served(BEHAVIOURS) as found:
        yield found


def peak_bytes(*, reset: bool = False) -> int:
    """The most memory this process ever held, or since it was reset (proc(5), clear_refs)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def test_the_suite_is_large() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    assert len(CASES) >= 120


async def look(port: int, case: Case, way: str = "flight") -> Observation:
    kit = ProbeKit(clock=SystemClock(), resolver=CachingResolver())
    asked = options(port, case)
    key = TargetKey(env="test", service=case.name, check="http", vantage="here")
    target = Target(key=key, kind=Kind.SERVICE, address=asked.url)
    check = kind("http").build(target, asked, kit)
    try:
        return await WAYS[way](check, target, deadline_s=asked.timeout + 1, clock=kit.clock)
    finally:
        await check.close()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_each_origin_gets_its_verdict(port: int, case: Case, way: str) -> None:
    before = peak_bytes(reset=True)
    started = time.monotonic()
    seen = await look(port, case, way)
    took_s = time.monotonic() - started
    grown = peak_bytes() - before
    finding = seen.finding
    assert f"{finding.state} {finding.reason}" == case.verdict, finding.message
    assert finding.message.startswith(f"{seen.target.address} ")
    assert grown < MOST_MEMORY
    assert took_s < 4
    if finding.reason == "timeout":
        assert "unfinished" in finding.message


async def test_a_look_cut_off_names_only_the_phases_that_happened(port: int) -> None:
    case = next(case for case in CASES if case.name == "hang")
    finding = (await look(port, case)).finding
    assert [time.phase for time in finding.phases] == ["connect"]
    assert "it accepted the request and sent no answer (processing unfinished)" in finding.message


@pytest.fixture(scope="module")
def blackbox(port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    config = msgspec.json.encode({"modules": modules(port)}).decode()
    with blackbox_exporter(config, tmp_path_factory.mktemp("blackbox")) as base:
        yield base


def modules(port: int) -> dict[str, Any]:
    """One module for each case: what it asks for, as far as blackbox_exporter can be asked."""
    return {case.name: module_of(case, port) for case in CASES}


def module_of(case: Case, port: int) -> dict[str, Any]:
    given = case.options
    expect, auth = given.get("expect", {}), given.get("auth", {})
    http: dict[str, Any] = {
        "preferred_ip_protocol": "ip4",
        "method": given.get("method", "GET"),
        "headers": given.get("headers", {}),
        "no_follow_redirects": given.get("redirects") == 0,
        "valid_status_codes": codes(expect.get("status", ())),
        "fail_if_body_not_matches_regexp": expect.get("body", []),
        "fail_if_body_matches_regexp": expect.get("body_not", []),
        "fail_if_header_not_matches": [
            {"header": name, "regexp": pattern, "allow_missing": key != "header"}
            for key in ("header", "header_if_sent")
            for name, pattern in expect.get(key, {}).items()
        ],
    }
    if "body" in given:
        http["body"] = given["body"]
    if "basic" in auth:
        http["basic_auth"] = auth["basic"]
    if "bearer" in auth:
        http["bearer_token"] = auth["bearer"]
    if "oauth2" in auth:
        url = auth["oauth2"]["token_url"].replace("{port}", str(port))
        http["oauth2"] = auth["oauth2"] | {"token_url": url}
    return {"prober": "http", "timeout": f"{given.get('timeout', 2.0)}s", "http": http}


def codes(accepted: Iterable[str | int]) -> list[int]:
    return sorted(Expect(status=tuple(accepted)).accepted()) if accepted else []


def succeeds(base: str, port: int, case: Case) -> bool:
    target = f"http://127.0.0.1:{port}/{case.name}{case.path}"
    return "\nprobe_success 1" in ask(base, case.name, target)


def test_blackbox_exporter_gets_nothing_right_that_we_get_wrong(blackbox: str, port: int) -> None:
    """Its verdict is the same as ours, which the suite holds to be right, or the case says why not."""
    with ThreadPoolExecutor(8) as pool:
        found = dict(zip(CASES, pool.map(lambda case: succeeds(blackbox, port, case), CASES), strict=True))
    ours = {case: case.verdict.split()[0] in (State.UP, State.DEGRADED) for case in CASES}
    agreeing = sum(found[case] == ours[case] for case in CASES)
    print(f"blackbox_exporter agrees with the suite in {agreeing} of {len(CASES)} cases; it differs in")
    for case in CASES:
        if found[case] != ours[case]:
            theirs = "up" if found[case] else "down"
            print(f"  {case.name:22} {theirs:5} instead of {case.verdict:26} {case.differs or 'UNEXPLAINED'}")
    assert [case.name for case in CASES if found[case] != ours[case] and not case.differs] == []


def test_the_documentation_lists_where_our_parser_is_stricter() -> None:
    page = " ".join((Path(__file__).parents[2] / "docs" / "api.md").read_text().split())
    assert [why for why in STRICT.values() if why not in page] == []
