from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest

from agent.log import LogWriter


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_event_facts_and_utc_time(stream: io.StringIO) -> None:
    writer = LogWriter(level="INFO", stream=stream)
    logging.getLogger("agent.prober").info("probe.failed", extra={"service": "auth", "duration_s": 0.5})
    writer.stop()
    (line,) = lines(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(line.pop("timestamp")))
    assert line == {
        "level": "INFO",
        "logger": "agent.prober",
        "event": "probe.failed",
        "service": "auth",
        "duration_s": 0.5,
    }


def test_secrets_never_appear_not_even_in_tracebacks(stream: io.StringIO) -> None:
    writer = LogWriter(level="INFO", secrets=["hunter2hunter2"], stream=stream)
    try:
        raise ValueError("cannot open postgres://gaia:hunter2hunter2@db/app")
    except ValueError:
        logging.getLogger("agent").exception("store.failed", extra={"url": "hunter2hunter2"})
    writer.stop()
    assert "hunter2" not in stream.getvalue()
    assert "***" in stream.getvalue()


def test_a_reload_changes_level_and_secrets(stream: io.StringIO) -> None:
    writer = LogWriter(level="WARNING", stream=stream)
    logging.getLogger("agent").info("unseen")
    writer.reconfigure(level="INFO", secrets=["new-secret"])
    logging.getLogger("agent").info("seen", extra={"token": "new-secret"})
    writer.stop()
    assert [line["event"] for line in lines(stream)] == ["seen"]
    assert "new-secret" not in stream.getvalue()


def test_a_library_that_logs_messages_is_heard_only_when_it_warns(stream: io.StringIO) -> None:
    writer = LogWriter(level="DEBUG", stream=stream)
    logging.getLogger("apprise").debug("payload: a page's whole text")
    logging.getLogger("apprise.plugins.json").info("Sent JSON notification")
    logging.getLogger("apprise").warning("no service matched")
    writer.stop()
    assert [line["event"] for line in lines(stream)] == ["no service matched"]
