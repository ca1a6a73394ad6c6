"""What a certificate says of itself: a small DER reader, because an unverified chain comes as bytes only.

RFC 5280 and X.690. Hostile input is expected: every length is checked, depth is bounded, anything odd raises
ValueError.
"""

from __future__ import annotations

import hashlib
import ipaddress
import ssl
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from msgspec import Struct

_SEQUENCE: Final = 0x30
_SET: Final = 0x31
_INTEGER: Final = 0x02
_OID: Final = 0x06
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18
_OCTET_STRING: Final = 0x04
_BMP_STRING: Final = 0x1E
_VERSION: Final = 0xA0
_EXTENSIONS: Final = 0xA3
_SAN_DNS: Final = 0x82
_SAN_IP: Final = 0x87
_OID_SAN: Final = bytes.fromhex("551d11")
_ATTRIBUTES: Final = {
    bytes.fromhex("550403"): "CN",
    bytes.fromhex("550406"): "C",
    bytes.fromhex("550408"): "ST",
    bytes.fromhex("550407"): "L",
    bytes.fromhex("55040a"): "O",
    bytes.fromhex("55040b"): "OU",
}
_MOST_NAMES: Final = 200
_LONGEST_LENGTH: Final = 4


class Certificate(Struct, frozen=True, kw_only=True):
    """The parts people and alerts need; times are Unix seconds."""

    subject: str
    issuer: str
    serial: str
    not_before_s: float
    not_after_s: float
    names: tuple[str, ...]
    fingerprint_sha256: str


class _Reader:
    """Walks over DER elements of one byte string."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def more(self) -> bool:
        return self._at < len(self._data)

    def peek(self) -> int:
        return self._data[self._at] if self.more else -1

    def next(self) -> tuple[int, bytes]:
        """Tag and contents of the next element. Raises ValueError."""
        if self._at + 2 > len(self._data):
            raise ValueError("element cut off")
        tag, length = self._data[self._at], self._data[self._at + 1]
        start = self._at + 2
        if length & 0x80:
            width = length & 0x7F
            if not 0 < width <= _LONGEST_LENGTH or start + width > len(self._data):
                raise ValueError("length is not valid")
            length = int.from_bytes(self._data[start : start + width], "big")
            start += width
        if start + length > len(self._data):
            raise ValueError("element longer than its container")
        self._at = start + length
        return tag, self._data[start : start + length]

    def expect(self, tag: int) -> bytes:
        found, contents = self.next()
        if found != tag:
            raise ValueError(f"tag {found:#x} instead of {tag:#x}")
        return contents


@lru_cache(maxsize=256)
def parse_certificate(der: bytes) -> Certificate:
    """Raises ValueError when `der` is no certificate."""
    body = _Reader(_Reader(_Reader(der).expect(_SEQUENCE)).expect(_SEQUENCE))
    if body.peek() == _VERSION:
        body.next()
    serial = body.expect(_INTEGER)
    body.expect(_SEQUENCE)
    issuer = _name(body.expect(_SEQUENCE))
    validity = _Reader(body.expect(_SEQUENCE))
    not_before_s, not_after_s = _time(*validity.next()), _time(*validity.next())
    subject = _name(body.expect(_SEQUENCE))
    body.expect(_SEQUENCE)
    names: tuple[str, ...] = ()
    while body.more:
        tag, contents = body.next()
        if tag == _EXTENSIONS:
            names = _alternative_names(_Reader(contents).expect(_SEQUENCE))
    return Certificate(
        subject=subject,
        issuer=issuer,
        serial=serial.hex().lstrip("0") or "0",
        not_before_s=not_before_s,
        not_after_s=not_after_s,
        names=names,
        fingerprint_sha256=hashlib.sha256(der).hexdigest(),
    )


def chain_of(connection: ssl.SSLObject) -> tuple[Certificate, ...]:
    """The chain as the server sent it, leaf first; certificates that cannot be read are left out."""
    found = _readable(_chain(connection, "get_unverified_chain"))
    if found:
        return found
    leaf = connection.getpeercert(binary_form=True)
    return _readable([leaf] if leaf else [])


def trusted_path(connection: ssl.SSLObject) -> tuple[Certificate, ...]:
    """The chain by which the leaf was verified, up to the authority we trust; empty when it was not."""
    if connection.context.verify_mode is ssl.CERT_NONE:
        return ()
    return _readable(_chain(connection, "get_verified_chain"))


def _readable(chain: list[bytes]) -> tuple[Certificate, ...]:
    found: list[Certificate] = []
    for der in chain:
        try:
            found.append(parse_certificate(der))
        except ValueError:
            continue
    return tuple(found)


def _chain(connection: ssl.SSLObject, method: str) -> list[bytes]:
    public = getattr(connection, method, None)
    if public is not None:  # Python 3.13
        chain: list[bytes] = public()
        return chain
    raw = getattr(getattr(connection, "_sslobj", None), method, None)
    # public_bytes(2) is DER (_ssl.ENCODING_DER).
    return [certificate.public_bytes(2) for certificate in raw() or ()] if raw is not None else []


def _name(contents: bytes) -> str:
    parts: list[str] = []
    relative = _Reader(contents)
    while relative.more:
        group = _Reader(relative.expect(_SET))
        while group.more:
            pair = _Reader(group.expect(_SEQUENCE))
            key = _ATTRIBUTES.get(pair.expect(_OID))
            tag, value = pair.next()
            if key is not None:
                text = value.decode("utf-16-be" if tag == _BMP_STRING else "utf-8", "replace")
                parts.append(f"{key}={text[:120]}")
    return ",".join(parts)


def _time(tag: int, contents: bytes) -> float:
    text = contents.decode("ascii", "replace")
    if tag == _UTC_TIME:
        # RFC 5280 section 4.1.2.5.1: years 50 to 99 belong to the last century.
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("not a time")
    if not (
        text.isascii() and len(text) == len("20260101000000Z") and text[:-1].isdigit() and text[-1] == "Z"
    ):
        raise ValueError("not a time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _alternative_names(contents: bytes) -> tuple[str, ...]:
    extensions = _Reader(contents)
    while extensions.more:
        extension = _Reader(extensions.expect(_SEQUENCE))
        if extension.expect(_OID) != _OID_SAN:
            continue
        tag, value = extension.next()
        if tag != _OCTET_STRING:  # the critical flag
            value = extension.expect(_OCTET_STRING)
        return tuple(_general_names(_Reader(value).expect(_SEQUENCE)))
    return ()


def _general_names(contents: bytes) -> list[str]:
    names: list[str] = []
    reader = _Reader(contents)
    while reader.more and len(names) < _MOST_NAMES:
        tag, value = reader.next()
        if tag == _SAN_DNS:
            names.append(value.decode("ascii", "replace"))
        elif tag == _SAN_IP:
            names.append(str(ipaddress.ip_address(value)))
    return names
