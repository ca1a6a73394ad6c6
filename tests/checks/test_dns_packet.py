"""DNS messages: what we ask, what we understand, and no crash or hang on anything else."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.dns.packet import CODES, PacketError, encode_name, encode_question, parse_message

QUESTION = encode_question("example.org", "A", identity=7)


def reply(*records: bytes, flags: int = 0x8180, questions: int = 1, answers: int | None = None) -> bytes:
    count = len(records) if answers is None else answers
    head = struct.pack("!6H", 7, flags, questions, count, 0, 0)
    return head + (QUESTION[12:] if questions else b"") + b"".join(records)


def record(kind: str, data: bytes, ttl: int = 60) -> bytes:
    return b"\xc0\x0c" + struct.pack("!HHIH", CODES[kind], 1, ttl, len(data)) + data


RECORDS = (
    ("A", b"\x7f\0\0\x01", "127.0.0.1"),
    ("AAAA", b"\0" * 15 + b"\x01", "::1"),
    ("CNAME", b"\x03www\xc0\x0c", "www.example.org"),
    ("MX", b"\0\x0a\x04mail\xc0\x0c", "10 mail.example.org"),
    ("SRV", b"\0\x01\0\x02\x1f\x90\xc0\x0c", "1 2 8080 example.org"),
    ("TXT", b"\x03v=1\x02 x", "v=1 x"),
    (
        "SOA",
        b"\xc0\x0c\xc0\x0c" + struct.pack("!5I", 2026, 2, 3, 4, 5),
        "example.org example.org 2026 2 3 4 5",
    ),
    ("CAA", b"\x80\x05issueca.test", '128 issue "ca.test"'),
)


@pytest.mark.parametrize(("kind", "data", "text"), RECORDS, ids=[case[0] for case in RECORDS])
def test_each_type_is_read(kind: str, data: bytes, text: str) -> None:
    message = parse_message(reply(record(kind, data)))
    (found,) = message.answers
    assert (found.name, found.type, found.ttl_s, found.data) == ("example.org", kind, 60, text)
    assert (message.rcode, message.question, message.truncated) == ("NOERROR", ("example.org", "A"), False)


@pytest.mark.parametrize(
    ("kind", "data", "zone"),
    [
        ("MX", b"\0\x0a\x04Mail\xc0\x0c", "10 Mail.example.org."),
        ("TXT", b'\x03v=1\x05 a"\\\n', r'"v=1" " a\"\\\010"'),
        ("CNAME", b"\0", "."),
    ],
)
def test_a_record_reads_like_a_line_of_a_zone_file(kind: str, data: bytes, zone: str) -> None:
    (found,) = parse_message(reply(record(kind, data))).answers
    assert str(found) == f"example.org.\t60\tIN\t{kind}\t{zone}"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        reply()[:-1],
        reply(answers=1),
        reply(record("A", b"\x7f\0\0")),
        reply(record("TXT", b"\x09abc")),
        reply(b"\xc0\xff" + record("A", b"\x7f\0\0\x01")[2:]),
        reply(b"\xc0\x1d" + record("A", b"\x7f\0\0\x01")[2:]),
        reply(b"\x80\x0c" + record("A", b"\x7f\0\0\x01")[2:]),
        reply(answers=65535),
        struct.pack("!6H", 7, 0x8180, 9, 0, 0, 0),
    ],
)
def test_what_is_no_message_is_a_packet_error(data: bytes) -> None:
    with pytest.raises(PacketError):
        parse_message(data)


def test_a_truncated_message_has_no_records() -> None:
    assert parse_message(reply(b"\x01", flags=0x8380, answers=5)).truncated


@pytest.mark.parametrize("name", ["a" * 64, "a..b", ".".join(["a" * 60] * 5)])
def test_what_is_no_name_cannot_be_asked(name: str) -> None:
    with pytest.raises(ValueError, match="host name"):
        encode_name(name)


@settings(deadline=None)  # a busy machine is no finding
@given(st.binary(max_size=500))
def test_any_bytes_are_a_message_or_a_packet_error(data: bytes) -> None:
    try_to_parse(data)


@settings(deadline=None)  # a busy machine is no finding
@given(st.sampled_from(RECORDS), st.integers(0, 200), st.binary(min_size=1, max_size=5))
def test_a_damaged_message_is_a_message_or_a_packet_error(
    case: tuple[str, bytes, str], place: int, damage: bytes
) -> None:
    whole = reply(record(case[0], case[1]))
    at = place % len(whole)
    try_to_parse(whole[:at] + damage + whole[at + len(damage) :])


LABELS = st.binary(min_size=1, max_size=12).map(lambda raw: bytes((len(raw),)) + raw)
POINTERS = st.integers(0, 600).map(lambda place: struct.pack("!H", 0xC000 | place))
NAMES = st.builds(
    lambda labels, end: b"".join(labels) + end,
    st.lists(LABELS, max_size=4),
    st.just(b"\0") | POINTERS | st.binary(max_size=2),
)
RECORDS_OF_ANY_KIND = st.builds(
    lambda name, kind, ttl, data, lie: (
        name + struct.pack("!HHIH", kind, 1, ttl, max(0, min(65535, len(data) + lie))) + data
    ),
    NAMES,
    st.sampled_from([*CODES.values(), 41, 65, 65280]),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=40) | NAMES | st.builds(lambda a, b: b"\0\x0a" + a + b, NAMES, NAMES),
    st.just(0) | st.integers(-3, 3),
)


@settings(deadline=None)  # a busy machine is no finding
@given(
    st.lists(RECORDS_OF_ANY_KIND, max_size=6),
    st.integers(0, 0xFFFF),
    st.tuples(*[st.integers(0, 7)] * 3),
    NAMES,
)
def test_anything_shaped_like_a_message_is_one_or_a_packet_error(
    records: list[bytes], flags: int, counts: tuple[int, int, int], name: bytes
) -> None:
    head = struct.pack("!6H", 7, flags, 1, *counts)
    try_to_parse(head + name + b"\0\x01\0\x01" + b"".join(records))


@settings(deadline=None)  # a busy machine is no finding
@given(st.lists(st.tuples(st.binary(min_size=4, max_size=4), st.integers(0, 2**31 - 1)), max_size=30))
def test_what_was_written_is_what_is_read(addresses: list[tuple[bytes, int]]) -> None:
    message = parse_message(reply(*[record("A", data, ttl) for data, ttl in addresses]))
    assert [(found.data, found.ttl_s) for found in message.answers] == [
        (".".join(str(byte) for byte in data), ttl) for data, ttl in addresses
    ]


def try_to_parse(data: bytes) -> None:
    try:
        message = parse_message(data)
    except PacketError:
        return
    for found in (*message.answers, *message.authority, *message.additional):
        assert str(found).isprintable() or "\t" in str(found)
        assert len(str(found)) < 5 * len(data) + 2000
