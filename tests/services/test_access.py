"""The access line, whatever a client sends."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from services.instrumentation.access import AccessLog
from services.instrumentation.context import Identity, RequestContext, child_of
from services.instrumentation.logs import LineWriter
from services.instrumentation.redaction import Redactor
from services.instrumentation.settings import Settings

SECRET = "a-secret-nobody-may-read"
TEXTS = st.text(max_size=300)


def line_of(path: str, context: RequestContext, folder: Path) -> str:
    """The one line that is written for a request of `path`."""
    file = folder / "log"
    descriptor = os.open(file, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    writer = LineWriter(Redactor([SECRET]), descriptor)
    request = make_mocked_request("GET", path)
    AccessLog(writer, Settings(service="shop")).note(
        request, context, status=200, error_type="", spent_s=0.0123456, response=web.Response(body=b"four")
    )
    writer.close()
    os.close(descriptor)
    text = file.read_text()
    assert text.count("\n") == 1
    return text


@settings(deadline=None)  # The writer gathers lines for 20 ms, and the machine may be busy.
@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_it_is_one_line_of_json_that_says_what_was_given(
    path: str, subject: str, scope: str, reason: str
) -> None:
    raw = URL.build(path=f"/{path}".replace("\x00", "")).raw_path
    context = RequestContext(child_of(None, ratio=1), "r1")
    context.identity, context.auth_reason = Identity("user", subject, "k1", (scope,)), reason
    with tempfile.TemporaryDirectory() as folder:
        line = json.loads(line_of(raw, context, Path(folder)))
    assert (line["auth_subject"], line["auth_scopes"], line["auth_reason"]) == (subject, [scope], reason)
    assert line["path"] == URL.build(path=raw, encoded=True).path[:256]
    assert (line["duration_ms"], line["bytes_sent"], line["status"]) == (12.346, 4, 200)


def test_secrets_are_masked_wherever_a_client_puts_them(tmp_path: Path) -> None:
    context = RequestContext(child_of(None, ratio=1), SECRET)
    context.identity = Identity("user", f"user {SECRET}", SECRET, (SECRET,))
    text = line_of(f"/x/{SECRET}?q={SECRET}", context, tmp_path)
    assert SECRET not in text
    assert json.loads(text)["path"] == "/x/***"


def test_a_path_of_wrong_bytes_is_still_a_line(tmp_path: Path) -> None:
    assert json.loads(line_of("/%ff%fe", RequestContext(child_of(None, ratio=1), "r"), tmp_path))["path"]
