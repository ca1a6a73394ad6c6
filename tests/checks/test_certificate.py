"""The DER reader agrees with a real X.509 library, and hostile bytes raise ValueError and nothing else."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.wire.certificate import parse_certificate
from checks.wire.expiry import chain_evidence
from tests.faults.certificates import sign

ROOT = sign("Röot, with comma", authority=True)
LEAF = sign(
    "leaf.test", by=ROOT, hosts=("leaf.test", "*.leaf.test", "127.0.0.1", "::1"), ends=timedelta(days=36500)
)
DER = LEAF.certificate.public_bytes(Encoding.DER)


def test_it_reads_what_the_library_wrote() -> None:
    found = parse_certificate(DER)
    certificate = LEAF.certificate
    assert found.names == ("leaf.test", "*.leaf.test", "127.0.0.1", "::1")
    assert (found.subject, found.issuer) == ("CN=leaf.test", "CN=Röot, with comma")
    assert found.not_after_s == certificate.not_valid_after_utc.timestamp()
    assert found.not_before_s == certificate.not_valid_before_utc.timestamp()
    assert int(found.serial, 16) == certificate.serial_number
    assert found.fingerprint_sha256 == certificate.fingerprint(hashes.SHA256()).hex()


@settings(deadline=None)  # a busy machine is no finding
@given(st.binary(max_size=400))
def test_any_bytes_are_a_certificate_or_a_value_error(data: bytes) -> None:
    try_to_parse(data)


@settings(deadline=None)  # a busy machine is no finding
@given(st.integers(0, len(DER) - 1), st.binary(min_size=1, max_size=6))
def test_a_damaged_certificate_is_a_certificate_or_a_value_error(at: int, damage: bytes) -> None:
    try_to_parse(DER[:at] + damage + DER[at + len(damage) :])


@pytest.mark.parametrize("size", range(0, len(DER), 7))
def test_a_certificate_cut_off_is_a_value_error(size: int) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_certificate(DER[:size])


def element(tag: int, contents: bytes, lie: int) -> bytes:
    """One DER element whose length may be wrong."""
    size = max(0, len(contents) + lie)
    if size < 0x80:
        return bytes((tag, size)) + contents
    long = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(long))) + long + contents


TAGS = st.sampled_from(
    [0x30, 0x31, 0x02, 0x06, 0x17, 0x18, 0x04, 0x01, 0x1E, 0x0C, 0xA0, 0xA3, 0x82, 0x87, 0x05]
)
LIES = st.just(0) | st.integers(-2, 2)
CONTENTS = st.binary(max_size=20) | st.sampled_from(
    [b"260101000000Z", b"99991231235959Z", b"20260101000000Z", b"\x55\x1d\x11", b"\x55\x04\x03"]
)
ELEMENTS = st.recursive(
    st.builds(element, TAGS, CONTENTS, LIES),
    lambda inner: st.builds(element, TAGS, st.lists(inner, max_size=7).map(b"".join), LIES),
    max_leaves=30,
)


@settings(deadline=None)  # a busy machine is no finding
@given(st.lists(ELEMENTS, max_size=8).map(b"".join))
def test_anything_shaped_like_der_is_a_certificate_or_a_value_error(inside: bytes) -> None:
    signed = element(0x30, inside, 0)
    try_to_parse(element(0x30, signed + element(0x30, b"", 0) + element(0x03, b"\0", 0), 0))


@settings(deadline=None)  # a busy machine is no finding
@given(st.lists(st.tuples(st.integers(0, len(DER) - 1), st.binary(min_size=1, max_size=4)), max_size=6))
def test_a_certificate_damaged_in_many_places_is_read_or_refused(damages: list[tuple[int, bytes]]) -> None:
    data = bytearray(DER)
    for at, damage in damages:
        data[at : at + len(damage)] = damage
    try_to_parse(bytes(data))


def try_to_parse(data: bytes) -> None:
    try:
        found = parse_certificate(data)
    except ValueError:
        return
    # What is shown of it is bounded, whatever it says of itself.
    assert len(found.names) <= 200
    assert chain_evidence((found,))
