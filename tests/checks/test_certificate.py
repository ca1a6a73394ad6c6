"""The DER reader agrees with a real X.509 library, and hostile bytes raise ValueError and nothing else."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.wire.certificate import parse_certificate
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


def try_to_parse(data: bytes) -> None:
    try:
        parse_certificate(data)
    except ValueError:
        return
