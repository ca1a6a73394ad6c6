"""Runs the table in conformance.py; and a foreign emitter, curl, with the specification's example bodies."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections import deque
from pathlib import Path

import pytest

from agent.exposition.document import Document
from agent.exposition.family import Family, Shape, Type, label_text
from agent.exposition.negotiation import choose_format
from agent.telemetry.dead_letters import DeadLetters
from agent.telemetry.durable_log import DurableLog, LogLimits
from agent.telemetry.options import DestinationOptions, IntakeOptions
from agent.telemetry.signals import Lane, Signal
from checks.units import Size
from tests.agent.telemetry import conformance
from tests.agent.telemetry.backend import Verdict, backend
from tests.agent.telemetry.conformance import Asked, Counted, Damage, Intake, Sending
from tests.agent.telemetry.otlp import JSON, logs, post, running
from tests.agent.telemetry.test_counting import rows, span
from tests.agent.telemetry.test_durable_log import put
from tests.agent.telemetry.test_forwarder import rig
from tests.agent.telemetry.test_reception import LOG_JSON, METRIC_JSON, TRACE_JSON, received
from tests.waiting import until

TABLES = (
    conformance.INTAKE, conformance.SENDER, conformance.COUNTING, conformance.EXPOSITION, conformance.QUEUE,
)  # fmt: skip
OPTIONS = IntakeOptions(
    listen="127.0.0.1:0",
    request=Size(conformance.LIMIT),
    in_flight=Size(conformance.LIMIT),
    keep_free=Size(0),
)
EXAMPLES = {"/v1/traces": TRACE_JSON, "/v1/metrics": METRIC_JSON, "/v1/logs": LOG_JSON}


def test_the_table_has_its_cases_and_each_a_name_of_its_own() -> None:
    names = [getattr(case, "name", None) or case for table in TABLES for case in table]
    assert len(names) >= 120
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("case", conformance.INTAKE, ids=lambda case: case.name)
async def test_intake(tmp_path: Path, case: Intake) -> None:
    async with running(tmp_path, OPTIONS) as intake:
        reader, writer = await asyncio.open_connection("127.0.0.1", intake.port)
        writer.write(case.sent)
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
        kept = await received(intake, case.signal)
    head, _, body = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert int(first.split()[1]) == case.status
    assert headers["content-type"] == case.media
    assert kept == case.kept
    assert case.says in body.decode("utf-8", "replace")
    assert case.headers.items() <= headers.items()
    assert "retry-after" not in headers
    assert len(body) == (0 if case.sent.startswith(b"HEAD") else int(headers["content-length"]))


@pytest.mark.parametrize("case", conformance.SENDER, ids=lambda case: case.name)
async def test_sender(tmp_path: Path, case: Sending) -> None:
    answers = deque(case.answers)
    async with rig(tmp_path) as at:
        at.backend.decide = lambda _path, _body: Verdict(
            answers.popleft() if len(answers) > 1 else answers[0]
        )
        await at.put(logs("a", "b"), items=2)

        async def became() -> bool:
            # Each look waits for the log's thread, which the forwarder needs in between.
            account = await at.forwarder.account(Signal.LOGS)
            there = getattr(account, case.becomes) == 2 and account.missing == 0
            return there and at.backend.requests != [] and bool(at.forwarder.backend.paused) is case.pauses

        async with asyncio.timeout(10):
            while not await became():
                pass
        reasons = {letter.label.reason for letter in DeadLetters(tmp_path / "dead").letters()}
    assert reasons == ({case.reason} if case.reason else set())


@pytest.mark.parametrize("case", conformance.COUNTING, ids=lambda case: case.name)
def test_counting(case: Counted) -> None:
    found = rows(span(case.attributes, kind=case.kind, status=2 if case.failed else 0))
    assert found == ([] if case.row is None else [(*case.row, 1.0)])


@pytest.mark.parametrize("case", conformance.EXPOSITION, ids=lambda case: case.accept or "none")
def test_exposition(case: Asked) -> None:
    form = choose_format(case.accept)
    assert form is case.form
    document = Document([Family(name="a_total", type=Type.COUNTER, help='a "b"\n\\')])
    document.put("a_total", label_text((("l", 'x"\\\n'),)), Shape("a_total"), (1,))
    text = b"".join(document.render(form)).decode()
    assert text.endswith("# EOF\n") is (form.value.startswith("application/openmetrics-text"))
    assert 'a_total{l="x\\"\\\\\\n"} 1\n' in text


@pytest.mark.parametrize("case", conformance.QUEUE, ids=lambda case: case.name)
async def test_queue(tmp_path: Path, case: Damage) -> None:
    log = DurableLog(tmp_path, LogLimits(free_bytes=0))
    await log.open()
    for number in range(3):
        await put(log, b"payload %d" % number * 20)
    await log.close()
    [path] = (tmp_path / "traces").glob("*.seg")
    content = bytearray(path.read_bytes())
    content = content[: int(len(content) * case.cut_to)]
    if case.flip_at is not None:
        content[int(len(content) * case.flip_at)] ^= 0xFF
    path.write_bytes(bytes(content) + case.appended)
    log = DurableLog(tmp_path, LogLimits(free_bytes=0))
    await log.open()
    found, at = [], 0
    while part := await log.read(Lane.TRACES, at, max_bytes=1 << 20):
        found += [payload for _, payload in part if payload is not None]
        at = part[-1][0].seq
    await put(log, b"new")
    last = await log.read(Lane.TRACES, at, max_bytes=1 << 20)
    await log.close()
    assert len(found) == case.left
    assert [payload for _, payload in last] == [b"new"]


CURL = shutil.which("curl")


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
@pytest.mark.parametrize("path", EXAMPLES)
async def test_curl_pushes_the_specification_s_examples_end_to_end(tmp_path: Path, path: str) -> None:
    assert CURL is not None
    body = tmp_path / "example.json"
    body.write_text(json.dumps(EXAMPLES[path]))
    async with backend() as collector:
        options = IntakeOptions(
            listen="127.0.0.1:0",
            keep_free=Size(0),
            destinations={"collector": DestinationOptions(url=collector.url)},
        )
        async with running(tmp_path / "data", options) as intake:
            for more in ([], ["-H", "Expect: 100-continue"], ["-H", "Transfer-Encoding: chunked"], ["-0"]):
                curl = await asyncio.create_subprocess_exec(
                    CURL, "-sS", "--fail", "-w", "%{http_code} %{content_type}", *more,
                    "-H", f"Content-Type: {JSON}", "--data-binary", f"@{body}",
                    f"http://127.0.0.1:{intake.port}{path}",
                    stdout=asyncio.subprocess.PIPE,
                )  # fmt: skip
                out, _ = await curl.communicate()
                assert out == b"{}200 application/json"
            await until(lambda: collector.bodies(path))
            # The same spans again are a retry; equal metrics and logs may be two events.
            assert (await post(intake.port, path, b"")).status == 200
