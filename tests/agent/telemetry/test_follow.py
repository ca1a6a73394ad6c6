from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from agent.telemetry.fly_logs import FlyLogs, line_of
from agent.telemetry.follow import Batch, Follower
from agent.telemetry.growing_file import MAX_LINE_BYTES
from agent.telemetry.json_lines import Line, to_request
from agent.telemetry.options import FlyLogsOptions, IntakeOptions
from agent.telemetry.segments import write_whole
from alerts.requests import ErrorLog
from checks.clock import SystemClock
from checks.nats.place import Place
from checks.secret import Secret
from checks.units import Size
from tests.agent.telemetry.otlp import Told, running
from tests.waiting import until

T = TypeVar("T")
TRACE = "0af7651916cd43dd8448eb211c80319c"


class Taken:
    """What a follower handed on; refuses while `broken`."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.broken = False
        self.refused = 0

    async def take(self, batch: Batch) -> None:
        if self.broken:
            self.refused += 1
            raise OSError("disk full")
        self.batches.append(batch)

    async def keep(self, path: Path, content: bytes) -> None:
        write_whole(path, content)

    @property
    def texts(self) -> list[str]:
        return [line.text.decode() for batch in self.batches for line in batch.lines]


async def in_thread(work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work)


@asynccontextmanager
async def following(path: Path, taken: Taken, *, linger_s: float = 0.1) -> AsyncIterator[None]:
    follower = Follower(
        path,
        state=path.with_suffix(".place"),
        clock=SystemClock(),
        take=taken.take,
        keep=taken.keep,
        in_thread=in_thread,
        poll_s=0.01,
        linger_s=linger_s,
    )
    task = asyncio.create_task(follower.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def write(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


async def test_lines_are_taken_as_they_are_written_even_before_the_file_exists(tmp_path: Path) -> None:
    path, taken = tmp_path / "log", Taken()
    async with following(path, taken):
        write(path, "a", "b")
        await until(lambda: taken.texts == ["a", "b"])
        with path.open("a") as file:
            file.write("half")
            file.flush()
            write(path, " whole")
        await until(lambda: taken.texts == ["a", "b", "half whole"])


async def test_nothing_is_lost_when_the_file_is_rotated_away(tmp_path: Path) -> None:
    path, taken = tmp_path / "log", Taken()
    async with following(path, taken):
        write(path, "1")
        await until(lambda: taken.texts == ["1"])
        write(path, "2")
        path.rename(tmp_path / "log.1")
        write(tmp_path / "log.1", "3")
        write(path, "4")
        await until(lambda: taken.texts == ["1", "2", "3", "4"])


async def test_a_truncated_file_is_read_from_its_beginning(tmp_path: Path) -> None:
    path, taken = tmp_path / "log", Taken()
    async with following(path, taken):
        write(path, "a long first line")
        await until(lambda: len(taken.texts) == 1)
        os.truncate(path, 0)
        write(path, "new")
        await until(lambda: taken.texts[1:] == ["new"])


async def test_what_a_writer_still_writes_into_the_rotated_file_is_taken_before_the_new_one(
    tmp_path: Path,
) -> None:
    path, taken = tmp_path / "log", Taken()
    async with following(path, taken, linger_s=0.5):
        write(path, "1")
        await until(lambda: taken.texts == ["1"])
        path.rename(tmp_path / "log.1")
        write(path, "4")
        write(tmp_path / "log.1", "2")
        await until(lambda: taken.texts == ["1", "2"])
        with (tmp_path / "log.1").open("a") as file:
            file.write("3 without an end")
        await until(lambda: taken.texts == ["1", "2", "3 without an end", "4"])


async def test_a_copied_and_emptied_file_that_grew_past_the_old_place_is_read_from_its_beginning(
    tmp_path: Path,
) -> None:
    path, taken = tmp_path / "log", Taken()
    write(path, "short")
    async with following(path, taken):
        await until(path.with_suffix(".place").exists)
    # Between two looks: copied away, emptied, and already longer than it was.
    os.truncate(path, 0)
    write(path, "another beginning", "and more")
    async with following(path, taken):
        await until(lambda: taken.texts == ["short", "another beginning", "and more"])


async def test_a_rotation_while_nobody_looked_loses_nothing(tmp_path: Path) -> None:
    path, taken = tmp_path / "app.log", Taken()
    write(path, "1")
    async with following(path, taken):
        await until(path.with_suffix(".place").exists)
    write(path, "2")
    path.rename(tmp_path / "app.log.1")
    write(path, "3")
    async with following(path, taken):
        await until(lambda: taken.texts == ["1", "2", "3"])


async def test_a_restart_inside_an_endless_line_does_not_take_its_rest_for_a_line(tmp_path: Path) -> None:
    path, taken = tmp_path / "log", Taken()
    with path.open("w") as file:
        file.write("x" * MAX_LINE_BYTES)
    async with following(path, taken):
        await until(path.with_suffix(".place").exists)
    with path.open("a") as file:
        file.write("the rest of it\nafter\n")
    async with following(path, taken):
        await until(lambda: taken.texts[1:] == ["after"])


async def test_a_replaced_file_is_not_left_while_its_lines_cannot_be_kept(tmp_path: Path) -> None:
    path, taken = tmp_path / "log", Taken()
    taken.broken = True
    write(path, "1")
    async with following(path, taken, linger_s=0.0):
        await until(lambda: taken.refused > 0)
        path.rename(tmp_path / "log.1")
        write(path, "2")
        await until(lambda: taken.refused > 5)
        taken.broken = False
        await until(lambda: taken.texts == ["1", "2"])


async def test_a_restart_goes_on_where_the_last_line_was_taken(tmp_path: Path) -> None:
    path, taken = tmp_path / "log", Taken()
    write(path, "a")
    async with following(path, taken):
        await until(lambda: taken.texts == ["a"])
        await until(path.with_suffix(".place").exists)
    write(path, "b")
    async with following(path, taken):
        await until(lambda: taken.texts == ["a", "b"])


async def test_lines_that_could_not_be_kept_are_offered_again(tmp_path: Path) -> None:
    path, taken = tmp_path / "log", Taken()
    taken.broken = True
    write(path, "a")
    async with following(path, taken):
        await until(lambda: taken.refused > 1)
        taken.broken = False
        await until(lambda: taken.texts == ["a"])


async def test_an_endless_line_costs_its_beginning_only(tmp_path: Path) -> None:
    path, taken = tmp_path / "log", Taken()
    write(path, "x" * 1_000_000, "after")
    async with following(path, taken):
        await until(lambda: taken.texts[-1:] == ["after"])
    assert max(len(text) for text in taken.texts) <= 256 * 1024


def records(*lines: bytes, least_severity: int = 0) -> list[object]:
    request = ExportLogsServiceRequest.FromString(
        to_request((Line(text=line, read_ns=7) for line in lines), least_severity=least_severity)
    )
    return [
        record
        for resource in request.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


def test_a_service_s_line_becomes_a_record_with_its_level_time_trace_and_exception() -> None:
    line = msgspec.json.encode(
        {
            "timestamp": "2026-11-23T10:00:00.123456Z", "level": "ERROR", "logger": "chat.worker",
            "event": "answer.failed", "service": "chat", "environment": "production",
            "trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331",
            "error_type": "TimeoutError", "exception": "Traceback", "attempt": 3, "api_key": "verysecret",
            "ok": True, "share": 0.5, "nested": {"a": 1}, "nothing": None,
        }
    )  # fmt: skip
    request = ExportLogsServiceRequest.FromString(to_request([Line(text=line, read_ns=7)]))
    [group] = request.resource_logs
    [scope] = group.scope_logs
    [record] = scope.log_records
    said = {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in record.attributes}
    assert {pair.key: pair.value.string_value for pair in group.resource.attributes} == {
        "service.name": "chat",
        "deployment.environment.name": "production",
    }
    assert (scope.scope.name, record.body.string_value) == ("chat.worker", "answer.failed")
    assert (record.severity_number, record.severity_text) == (17, "ERROR")
    assert (record.time_unix_nano // 1000, record.observed_time_unix_nano) == (1795428000123456, 7)
    assert record.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert said == {
        "exception.type": "TimeoutError", "exception.stacktrace": "Traceback", "attempt": 3, "api_key": "***",
        "ok": True, "share": 0.5, "nested": '{"a":1}',
    }  # fmt: skip


def test_lines_below_the_environment_s_level_are_left_out_but_never_access_lines() -> None:
    lines = [
        msgspec.json.encode({"level": level, "event": level, "logger": name})
        for level, name in (("DEBUG", "a"), ("INFO", "access"), ("WARNING", "a"), ("", "a"))
    ]
    assert len(records(*lines, least_severity=13)) == 3


@pytest.mark.parametrize(
    ("level", "number"),
    [(10, 5), (20, 9), (30, 13), (40, 17), (50, 21), ("warn", 13), ("Critical", 21), ("odd", 0)],
)
def test_levels_are_read_as_loggers_write_them(level: object, number: int) -> None:
    request = ExportLogsServiceRequest.FromString(
        to_request([Line(text=msgspec.json.encode({"level": level, "msg": "x"}), read_ns=7)])
    )
    assert request.resource_logs[0].scope_logs[0].log_records[0].severity_number == number


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record(text: bytes) -> None:
    assert len(records(text)) == 1


@given(
    st.dictionaries(
        st.text(max_size=10),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=20)
        | st.lists(st.text(max_size=3), max_size=2),
        max_size=8,
    )
)
def test_any_json_object_is_a_record(fields: dict[str, object]) -> None:
    assert len(records(msgspec.json.encode(fields))) == 1


async def test_an_error_line_in_a_followed_file_reaches_the_rules_once_even_across_restarts(
    tmp_path: Path,
) -> None:
    path, told = tmp_path / "auth.log", Told()
    options = IntakeOptions(listen="127.0.0.1:0", keep_free=Size(0), follow={"auth": (str(path),)})
    write(path, f'{{"level":"ERROR","logger":"auth.db","event":"pool exhausted","trace_id":"{TRACE}"}}')
    async with running(tmp_path / "data", options, told):
        await until(lambda: told.errors)
    async with running(tmp_path / "data", options, told):
        write(
            path, '{"level":"INFO","event":"fine"}', '{"level":"CRITICAL","logger":"auth.db","event":"gone"}'
        )
        await until(lambda: len(told.errors) >= 2)
    assert told.errors == [
        ErrorLog(
            env="production", service="auth", at_s=event.at_s, fingerprint=event.fingerprint, sample=sample,
            trace_id=trace_id, fatal=fatal,
        )
        for event, (sample, trace_id, fatal) in zip(
            told.errors,
            [("pool exhausted", TRACE, False), ("gone", "", True)],
            strict=True,
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "line", "service"),
    [
        ("auth", '{"event":"x","service":"other"}', "auth"),
        ("", '{"event":"x","service":"chat"}', "chat"),
        ("", '{"event":"x"}', "worker"),
        ("", "no JSON at all", "worker"),
    ],
    ids=["the given name wins", "the line's own", "the file's name", "bare text"],
)
async def test_a_line_counts_for_the_service_given_else_its_own_else_its_file_s(
    tmp_path: Path, given: str, line: str, service: str
) -> None:
    path = tmp_path / "worker.log"
    options = IntakeOptions(listen=None, keep_free=Size(0), follow={given: (str(path),)})
    write(path, line)
    async with running(tmp_path / "data", options) as intake:
        await until(lambda: intake._log is not None and intake._parts()[1].logs.levels)
        assert {key[0] for key in intake._parts()[1].logs.levels} == {service}


FLY = {
    "event": {"provider": "app"},
    "fly": {"app": {"instance": "1857", "name": "gaia-auth-prod"}, "region": "fra"},
    "host": "edge",
    "log": {"level": "error"},
    "message": "boom",
    "timestamp": "2026-11-23T10:00:00Z",
}


def test_a_bare_line_of_fly_keeps_fly_s_level_app_and_region() -> None:
    line = line_of(msgspec.json.encode(FLY), read_ns=7)
    assert line is not None
    assert dict(line.resource) == {
        "service.name": "gaia-auth-prod", "service.instance.id": "1857", "cloud.region": "fra",
        "cloud.provider": "fly_io",
    }  # fmt: skip
    request = ExportLogsServiceRequest.FromString(to_request([line]))
    [record] = request.resource_logs[0].scope_logs[0].log_records
    assert (record.severity_number, record.body.string_value) == (17, "boom")


@given(st.binary(max_size=100))
def test_what_is_no_event_of_fly_is_none(data: bytes) -> None:
    assert line_of(data, read_ns=7) is None or data.strip()[:1] == b"{"


class NatsServer:
    """Enough of a NATS server to log in, subscribe, and be sent to."""

    def __init__(self) -> None:
        self.said: list[bytes] = []
        self.port = 0
        self._writers: list[asyncio.StreamWriter] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","max_payload":1048576}\r\n')
        self._writers.append(writer)
        while line := await reader.readline():
            self.said.append(line)
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")

    def publish(self, subject: str, data: bytes) -> None:
        self._writers[-1].write(f"MSG {subject} 1 {len(data)}\r\n".encode() + data + b"\r\n")

    def cut(self) -> None:
        self._writers[-1].transport.abort()


async def test_fly_s_stream_is_logged_into_and_read(tmp_path: Path) -> None:
    nats, told = NatsServer(), Told()
    server = await asyncio.start_server(nats.handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    options = IntakeOptions(
        listen="127.0.0.1:0",
        keep_free=Size(0),
        fly_logs=FlyLogsOptions(org="acme", token=Secret("readonly"), address=f"127.0.0.1:{port}"),
    )
    async with running(tmp_path, options, told):
        await until(lambda: any(line.startswith(b"SUB logs.> ") for line in nats.said))
        assert any(b'"user": "acme"' in line and b'"pass": "readonly"' in line for line in nats.said)
        nats.publish("logs.gaia-auth-prod.fra.1857", msgspec.json.encode(FLY))
        nats.publish("logs.gaia-auth-prod.fra.1857", b"not an event")
        await until(lambda: told.errors)
    assert (told.errors[0].service, told.errors[0].sample) == ("gaia-auth-prod", "boom")
    server.close()


async def test_more_lines_than_can_be_held_are_dropped_and_counted() -> None:
    held = asyncio.Event()

    async def take(_: tuple[Line, ...]) -> None:
        await held.wait()

    place = Place(host="127.0.0.1", port=1)
    stream = FlyLogs(place, subject="logs.>", clock=SystemClock(), take=take)
    from checks.nats.link import Reply

    for _ in range(10_050):
        stream._heard(Reply(subject="logs.a", data=msgspec.json.encode(FLY)))
    assert stream.dropped == 50
