"""Every misbehaving HTTP origin gets its exact verdict, in time, with flat memory."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from checks.catalog import ProbeKit, kind
from checks.clock import SystemClock
from checks.finding import State
from checks.observation import Observation, observe
from checks.resolver import CachingResolver
from checks.target import Kind, Target, TargetKey
from tests.faults.http_cases import BEHAVIOURS, CASES, MEGABYTE, Case
from tests.faults.origin import served
from tests.waiting import until_sync

BLACKBOX = shutil.which("prometheus-blackbox-exporter") or shutil.which("blackbox_exporter")
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


async def look(port: int, case: Case) -> Observation:
    kit = ProbeKit(clock=SystemClock(), resolver=CachingResolver())
    asked = options(port, case)
    key = TargetKey(env="test", service=case.name, check="http", vantage="here")
    target = Target(key=key, kind=Kind.SERVICE, address=asked.url)
    check = kind("http").build(target, asked, kit)
    try:
        return await observe(check, target, deadline_s=asked.timeout + 1, clock=kit.clock)
    finally:
        await check.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_each_origin_gets_its_verdict(port: int, case: Case) -> None:
    before = peak_bytes(reset=True)
    started = time.monotonic()
    seen = await look(port, case)
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
def blackbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    if BLACKBOX is None:
        pytest.skip("prometheus-blackbox-exporter is not installed")
    config = tmp_path_factory.mktemp("blackbox") / "blackbox.yml"
    config.write_text(
        "modules:\n"
        "  get: {prober: http, timeout: 2s, http: {preferred_ip_protocol: ip4}}\n"
        "  head: {prober: http, timeout: 2s, http: {method: HEAD, preferred_ip_protocol: ip4}}\n"
    )
    with exporter(config) as listen:
        yield listen


@contextmanager
def exporter(config: Path) -> Iterator[int]:
    assert BLACKBOX is not None
    with socket.create_server(("127.0.0.1", 0)) as server:
        listen: int = server.getsockname()[1]
    process = subprocess.Popen(
        [
            BLACKBOX,
            f"--config.file={config}",
            f"--web.listen-address=127.0.0.1:{listen}",
            "--log.level=error",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until_sync(lambda: answers(listen), within_s=10, what="blackbox_exporter")
        yield listen
    finally:
        process.kill()
        process.wait()


def answers(listen: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{listen}/-/healthy", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def succeeds(listen: int, port: int, case: Case) -> bool:
    module = "head" if case.options.get("method") == "HEAD" else "get"
    target = f"http://127.0.0.1:{port}/{case.name}{case.path}"
    url = f"http://127.0.0.1:{listen}/probe?module={module}&target={target}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return b"\nprobe_success 1" in answer.read()


def test_blackbox_exporter_gets_nothing_right_that_we_get_wrong(blackbox: int, port: int) -> None:
    """Its verdict is the same as ours, which the suite holds to be right, or the case says why not."""
    with ThreadPoolExecutor(8) as pool:
        found = dict(zip(CASES, pool.map(lambda case: succeeds(blackbox, port, case), CASES), strict=True))
    ours = {case: case.verdict.split()[0] in (State.UP, State.DEGRADED) for case in CASES}
    unexplained = [case.name for case in CASES if found[case] != ours[case] and not case.differs]
    agreeing = sum(found[case] == ours[case] for case in CASES)
    print(f"blackbox_exporter agrees with the suite in {agreeing} of {len(CASES)} cases")
    assert unexplained == []
