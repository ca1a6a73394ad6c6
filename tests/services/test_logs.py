"""Every line on stdout is valid JSON, carries its trace, and holds no secret."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.instrumentation.context import TraceContext, current_trace
from services.instrumentation.logs import JsonHandler, LineWriter, to_json
from services.instrumentation.redaction import Redactor
from services.instrumentation.settings import Settings

ENVIRON = {
    "API_KEY": "s3cret-platform-key",
    "OPENAI_API_KEY": 'odd"key\\with\nescapes',
    "DATABASE_URL": "postgresql://gaia:p%40ssw0rd-x@db.internal/gaia",
    "SHORT_KEY": "abc",
}


class Log:
    """A logger whose finished lines can be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
        self.writer = LineWriter(Redactor.from_environment(ENVIRON), self._descriptor)
        handler = JsonHandler(self.writer, Settings.from_environment("auth", ENVIRON))
        self.logger = logging.getLogger("services.test")
        self.logger.handlers[:] = [handler]
        self.logger.propagate = False
        self.logger.setLevel(logging.DEBUG)

    def text(self) -> str:
        self.writer.close()
        os.close(self._descriptor)
        return self.path.read_text("utf-8")


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "log")


def test_a_line_has_time_event_facts_and_trace(log: Log) -> None:
    token = current_trace.set(TraceContext("ab" * 16, "cd" * 8, 3))
    log.logger.info("probe.failed", extra={"target": "db", "level": "trick", "attempt": 2})
    current_trace.reset(token)
    line = json.loads(log.text())
    stamp = line.pop("timestamp")
    assert stamp.endswith("Z")
    assert len(stamp) == len("2026-11-23T14:18:13.662822Z")
    assert line == {
        "level": "INFO", "logger": "services.test", "event": "probe.failed", "service": "auth",
        "environment": "development", "target": "db", "attempt": 2, "extra_level": "trick",
        "trace_id": "ab" * 16, "span_id": "cd" * 8, "trace_flags": "03",
    }  # fmt: skip


def test_an_exception_is_part_of_its_line(log: Log) -> None:
    try:
        raise ValueError("broken\nin two lines")
    except ValueError:
        log.logger.exception("work.failed")
    text = log.text()
    assert text.count("\n") == 1
    line = json.loads(text)
    assert line["error_type"] == "ValueError"
    assert "broken\nin two lines" in line["exception"]


def test_no_secret_of_the_environment_or_in_a_known_shape_is_written(log: Log) -> None:
    secrets = [
        ENVIRON["API_KEY"],
        ENVIRON["OPENAI_API_KEY"],
        "p%40ssw0rd-x",
        "p@ssw0rd-x",
        "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "sk-ant-api03-abcdefgh",
        "gaia_dev_abcdefabcdef_0123456789012345678901234567890123456789",
        "nats://user:hunter2hunter2@broker",
    ]
    for secret in secrets:
        log.logger.warning("trouble with %s", secret, extra={"value": secret, "nested": {"list": [secret]}})
    text = log.text()
    assert len([json.loads(line) for line in text.splitlines()]) == len(secrets)
    for secret in (*secrets[:-1], "hunter2hunter2"):
        assert secret not in text
        assert json.dumps(secret)[1:-1] not in text


def test_a_password_that_is_a_word_does_not_eat_other_words() -> None:
    redactor = Redactor.from_environment({"DATABASE_URL": "postgresql://postgres:postgres@localhost/gaia"})
    assert redactor.redact("postgresql:responseTime") == "postgresql:responseTime"


text = st.text(st.characters())
plain = st.none() | st.booleans() | st.integers() | st.floats() | text | st.binary() | st.complex_numbers()
anything = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(text | st.integers(), inner, max_size=4)
        | st.tuples(inner)
        | st.frozensets(st.integers(), max_size=3)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(st.characters(), max_size=8), anything, max_size=5))
@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_scenario_18_whatever_is_logged_becomes_one_line_of_valid_json(facts: dict[str, object]) -> None:
    line = to_json(facts)
    assert b"\n" not in line
    json.loads(line.decode("utf-8"), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_unprintable_objects_and_cycles_do_not_lose_the_line() -> None:
    class Rude:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    cycle: list[object] = []
    cycle.append(cycle)
    assert json.loads(to_json({"rude": Rude()})) == {"rude": "<unprintable Rude: RuntimeError>"}
    assert "..." in to_json({"cycle": cycle, "bad": "\ud800"}).decode()


def test_a_reader_that_stops_reading_never_blocks_the_writer(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    writer = LineWriter(Redactor(), writing)
    for _ in range(30_000):
        writer.write(b"x" * 100)
    assert writer.dropped > 0
    os.close(reading)
    writer.close()
    os.close(writing)
