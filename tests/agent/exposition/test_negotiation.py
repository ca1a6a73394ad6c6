"""Who gets which format."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.exposition.negotiation import Format, accepts_gzip, choose_format

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
TEXT_FIRST = "text/plain;version=0.0.4;q=0.9,application/openmetrics-text;version=1.0.0;q=0.5"


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, Format.TEXT),
        ("", Format.TEXT),
        ("*/*", Format.TEXT),
        ("text/html,application/xhtml+xml,*/*;q=0.8", Format.TEXT),
        ("application/json", Format.TEXT),
        ("text/plain", Format.TEXT),
        ("text/*", Format.TEXT),
        ("application/openmetrics-text", Format.OPEN_METRICS),
        ("application/*", Format.OPEN_METRICS),
        ("Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8", Format.OPEN_METRICS),
        ('application/openmetrics-text; version="1.0.0"', Format.OPEN_METRICS),
        (PROMETHEUS_2, Format.OPEN_METRICS),
        (PROMETHEUS_3, Format.OPEN_METRICS),
        (TEXT_FIRST, Format.TEXT),
        ("application/openmetrics-text;version=9.9.9", Format.TEXT),
        ("application/openmetrics-text;version=0.0.1", Format.TEXT),
        ("application/openmetrics-text;version=1.0.0;q=0", Format.TEXT),
        ("*/*,application/openmetrics-text;q=0", Format.TEXT),
        ("text/plain;q=0,*/*;q=0.5", Format.OPEN_METRICS),
        ("text/plain;q=high, application/openmetrics-text;q=0.1", Format.OPEN_METRICS),
        ("application/openmetrics-text,text/plain", Format.OPEN_METRICS),
        ("text/plain,application/openmetrics-text", Format.TEXT),
    ],
)
def test_the_highest_quality_wins(accept: str | None, form: Format) -> None:
    assert choose_format(accept) is form


@pytest.mark.parametrize(
    ("accept_encoding", "taken"),
    [
        (None, False),
        ("", False),
        ("identity", False),
        ("gzip", True),
        ("GZIP", True),
        ("br, gzip;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("*", True),
        ("*;q=0", False),
        ("deflate", False),
    ],
)
def test_gzip_is_used_where_it_is_accepted(accept_encoding: str | None, taken: bool) -> None:  # noqa: FBT001 - a test's parameter
    assert accepts_gzip(accept_encoding) is taken


@given(st.text(max_size=200))
def test_no_header_makes_it_fail(header: str) -> None:
    assert choose_format(header) in Format
    assert accepts_gzip(header) in {True, False}
