"""The short way to an answer says what the strict parser says, or nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.http.answer import plain_answer
from checks.http.body import Body
from checks.http.response import ResponseParser
from checks.wire.fault import Fault
from tests.faults.http_cases import answer

LIMIT = 4096
DATE = b"Date: Fri, 27 Nov 2026 23:59:59 GMT"
PLAIN = answer(b'{"status":"pass"}', DATE, b"Content-Type: application/json")

Told = tuple[int, str, tuple[tuple[str, str], ...], bytes, int, bool]


def strictly(data: bytes) -> Told | None:
    """What the parser makes of `data` when nothing more comes; the Date apart."""
    body = Body(limit_bytes=LIMIT)
    parser = ResponseParser(method="GET", sink=body)
    try:
        parser.feed(data)
        if not parser.done:
            return None
        body.end()
    except Fault:
        return None
    head = parser.head
    assert head is not None
    fields = tuple(field for field in head.fields if field[0] != "date")
    return head.status, head.version, fields, body.content(), body.wire_bytes, parser.reusable


def shortly(data: bytes) -> Told | None:
    found = plain_answer(data, LIMIT)
    if found is None:
        return None
    fields = tuple(field for field in found.head.fields if field[0] != "date")
    return found.head.status, found.head.version, fields, found.body, found.wire_bytes, found.reusable


def test_an_ordinary_answer_goes_the_short_way() -> None:
    assert shortly(PLAIN) is not None
    assert shortly(PLAIN) == strictly(PLAIN)


def test_two_answers_that_differ_in_their_date_share_their_head() -> None:
    later = PLAIN.replace(b"23:59:59", b"00:00:04")
    first, second = plain_answer(PLAIN, LIMIT), plain_answer(later, LIMIT)
    assert first is not None
    assert second is not None
    assert first.head is second.head


@pytest.mark.parametrize(
    "data",
    [
        PLAIN[:-1],
        PLAIN + b"x",
        PLAIN.replace(b"\r\n", b"\n"),
        answer(b"x" * (LIMIT + 1)),
        answer(b"", b"Content-Encoding: gzip"),
        b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 103 Early\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    ],
    ids=["cut", "more", "bare LF", "large", "coded", "204", "interim", "chunked", "unknown", "two lengths"],
)
def test_everything_else_is_left_to_the_parser(data: bytes) -> None:
    assert plain_answer(data, LIMIT) is None


def test_a_folded_date_is_left_where_it_is() -> None:
    data = PLAIN.replace(DATE, DATE + b"\r\n and more")
    assert shortly(data) == strictly(data)


PIECES = st.sampled_from(
    [
        b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 503 No", b"HTTP/1.1 204 No", b"HTTP/2.0 200 OK",
        b"\r\n", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b" ", b"\t", DATE, b"Date: x", b"date: y", b"\0",
        b"Content-Length: 2", b"Content-Length: 0", b"Content-Length: +2", b"Content-Length: 2, 2",
        b"Connection: close", b"Connection: keep-alive", b"Content-Encoding: gzip", b"A: b", b"A : b",
        b"Transfer-Encoding: chunked", b"hi", b"2\r\nhi\r\n0",
    ]
)  # fmt: skip


@settings(deadline=None, max_examples=400)  # a busy machine is no finding
@given(st.lists(PIECES, max_size=14).map(b"".join))
def test_whatever_comes_the_short_way_agrees_with_the_parser(tail: bytes) -> None:
    for data in (tail, b"HTTP/1.1 200 OK\r\n" + tail, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + tail):
        short = shortly(data)
        assert short is None or short == strictly(data)


@settings(deadline=None)  # a busy machine is no finding
@given(st.integers(0, 10_000), st.binary(max_size=4))
def test_a_damaged_answer_does_too(place: int, damage: bytes) -> None:
    at = place % (len(PLAIN) + 1)
    data = PLAIN[:at] + damage + PLAIN[at + len(damage) :]
    short = shortly(data)
    assert short is None or short == strictly(data)
