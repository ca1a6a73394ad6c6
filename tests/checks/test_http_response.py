"""The response parser: the same answer however it is cut, and never anything but an answer or a Fault."""

from __future__ import annotations

import gzip
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from checks.http.body import Body
from checks.http.head import Head
from checks.http.response import ResponseParser
from checks.wire.fault import Fault
from tests.faults.http_cases import CODINGS, FRAMING, answer, chunked

LIMIT = 1 << 16
WHOLE = (
    answer(),
    chunked(b"hello", b"world", trailer=b"X-Sum: 1\r\n"),
    chunked(*[b"ab"] * 50),
    answer(gzip.compress(b"hello"), b"Content-Encoding: gzip"),
    b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\nA: b\r\n c\nContent-Length: 2\n\nhi",
)


def parsed(pieces: list[bytes], *, end: bool = True) -> tuple[Head | None, bytes] | str:
    body = Body(limit_bytes=LIMIT)
    parser = ResponseParser(method="GET", sink=body)
    try:
        for piece in pieces:
            parser.feed(piece)
        if end and not parser.done:
            parser.end()
        body.end()
    except Fault as fault:
        return fault.reason.value
    return parser.head, body.content()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:stop] for start, stop in itertools.pairwise(edges)]


@settings(deadline=None)  # a busy machine is no finding
@given(st.sampled_from(WHOLE), st.lists(st.integers(0, 10_000), max_size=30))
def test_an_answer_reads_the_same_however_it_is_cut(data: bytes, places: list[int]) -> None:
    assert parsed(cut(data, places)) == parsed([data])
    assert not isinstance(parsed([data]), str)


@settings(deadline=None)  # a busy machine is no finding
@given(st.lists(st.binary(max_size=200), max_size=10))
def test_any_bytes_are_an_answer_or_a_fault(pieces: list[bytes]) -> None:
    parsed(pieces)


@settings(deadline=None)  # a busy machine is no finding
@given(st.sampled_from(WHOLE), st.integers(0, 10_000), st.binary(min_size=1, max_size=8))
def test_a_damaged_answer_is_an_answer_or_a_fault(data: bytes, place: int, damage: bytes) -> None:
    at = place % len(data)
    parsed([data[:at] + damage + data[at + len(damage) :]])


@settings(deadline=None)  # a busy machine is no finding
@given(st.binary(max_size=3000), st.sampled_from(["gzip", "deflate", "gzip, deflate", "identity"]))
def test_any_body_decodes_or_is_a_fault_and_stays_within_its_limit(data: bytes, coding: str) -> None:
    found = parsed([answer(data, b"Content-Encoding: " + coding.encode())])
    assert isinstance(found, str) or len(found[1]) <= LIMIT


def test_a_connection_with_surplus_or_two_framings_is_not_reused() -> None:
    def reusable(data: bytes) -> bool:
        parser = ResponseParser(method="GET", sink=Body(limit_bytes=LIMIT))
        parser.feed(data)
        return parser.reusable

    both = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert [reusable(answer()), reusable(answer() + b"x"), reusable(both)] == [True, False, False]
    assert not reusable(answer(b"x", b"Connection: Close"))
    assert len(FRAMING) + len(CODINGS) > 90
