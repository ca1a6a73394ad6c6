"""DNS messages: questions to bytes, bytes to answers. RFC 1035; pure, and safe against hostile bytes."""

from __future__ import annotations

import ipaddress
import struct
from typing import Final, Literal

from msgspec import Struct

RecordType = Literal["A", "AAAA", "TXT", "SRV", "MX", "CNAME", "NS", "SOA", "PTR", "CAA", "ANY"]

CODES: Final[dict[str, int]] = {
    "A": 1,
    "NS": 2,
    "CNAME": 5,
    "SOA": 6,
    "PTR": 12,
    "MX": 15,
    "TXT": 16,
    "AAAA": 28,
    "SRV": 33,
    "CAA": 257,
    "ANY": 255,
}
_NAMES: Final = {code: name for name, code in CODES.items()}
RCODES: Final = {
    0: "NOERROR",
    1: "FORMERR",
    2: "SERVFAIL",
    3: "NXDOMAIN",
    4: "NOTIMP",
    5: "REFUSED",
    6: "YXDOMAIN",
    9: "NOTAUTH",
}
_HEADER: Final = struct.Struct("!6H")
_FIXED: Final = struct.Struct("!HHIH")
_CLASS_IN: Final = 1
_CLASSES: Final = {1: "IN", 3: "CH", 4: "HS", 254: "NONE", 255: "ANY"}
_RECURSION_DESIRED: Final = 0x0100
_RESPONSE: Final = 0x8000
_TRUNCATED: Final = 0x0200
_AUTHORITATIVE: Final = 0x0400
_POINTER: Final = 0xC0
_LONGEST_NAME: Final = 255
_MOST_JUMPS: Final = 64
_MOST_RECORDS: Final = 1000


class PacketError(ValueError):
    """The bytes are no DNS message."""


class Record(Struct, frozen=True, kw_only=True):
    """One resource record; `data` is what it says, `zone` the whole record as a zone file has it."""

    name: str
    type: str
    ttl_s: int
    data: str
    zone: str

    def __str__(self) -> str:
        """As in a zone file (RFC 1035 section 5), and as blackbox_exporter's patterns see it."""
        return self.zone


class Message(Struct, frozen=True, kw_only=True):
    """A response. Names are lower case without the final dot, save in a record's `zone`."""

    identity: int
    response: bool
    truncated: bool
    authoritative: bool
    rcode: str
    question: tuple[str, str] | None
    answers: tuple[Record, ...]
    authority: tuple[Record, ...]
    additional: tuple[Record, ...]


def encode_name(name: str) -> bytes:
    """Raises ValueError when `name` is no host name."""
    labels = [] if name in ("", ".") else name.removesuffix(".").split(".")
    encoded = b""
    for label in labels:
        raw = label.encode("ascii") if label.isascii() else label.encode("idna")
        if not 0 < len(raw) < 64:
            raise ValueError(f'"{name}" is no host name')
        encoded += bytes((len(raw),)) + raw
    if len(encoded) >= _LONGEST_NAME:
        raise ValueError(f'"{name}" is too long for a host name')
    return encoded + b"\0"


def encode_question(name: str, record_type: str, *, identity: int, recursion: bool = True) -> bytes:
    """A query for one name and type. Raises ValueError when `name` is no host name."""
    flags = _RECURSION_DESIRED if recursion else 0
    header = _HEADER.pack(identity, flags, 1, 0, 0, 0)
    return header + encode_name(name) + struct.pack("!HH", CODES[record_type], _CLASS_IN)


def parse_message(data: bytes) -> Message:
    """Raises PacketError when `data` is no whole DNS message."""
    if len(data) < _HEADER.size:
        raise PacketError("shorter than a header")
    identity, flags, questions, *counts = _HEADER.unpack_from(data)
    if questions > 1 or sum(counts) > _MOST_RECORDS:
        raise PacketError("more questions or records than anybody sends")
    reader = _Reader(data, _HEADER.size)
    question = None
    if questions:
        name = reader.name()
        code, _ = reader.unpack(struct.Struct("!HH"))
        question = (name.lower(), _NAMES.get(code, f"TYPE{code}"))
    truncated = bool(flags & _TRUNCATED)
    # RFC 2181 section 9: what a truncated message holds is not to be used anyway.
    sections = [tuple(reader.record() for _ in range(0 if truncated else count)) for count in counts]
    rcode = flags & 0x0F
    return Message(
        identity=identity,
        response=bool(flags & _RESPONSE),
        truncated=truncated,
        authoritative=bool(flags & _AUTHORITATIVE),
        rcode=RCODES.get(rcode, f"RCODE{rcode}"),
        question=question,
        answers=sections[0],
        authority=sections[1],
        additional=sections[2],
    )


class _Reader:
    """Walks over a message; names may point back into it."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at

    def unpack(self, form: struct.Struct) -> tuple[int, ...]:
        raw = self.take(form.size)
        return form.unpack(raw)

    def take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise PacketError("cut off")
        raw = self._data[self._at : end]
        self._at = end
        return raw

    def name(self) -> str:
        text, self._at = _name_at(self._data, self._at)
        return text

    def record(self) -> Record:
        name = self.name()
        code, number, ttl_s, size = self.unpack(_FIXED)
        start = self._at
        raw = self.take(size)
        kind = _NAMES.get(code, f"TYPE{code}")
        data, zone = _presented(kind, self._data, start, raw)
        group = _CLASSES.get(number, f"CLASS{number}")
        return Record(
            name=name.lower(),
            type=kind,
            # RFC 2181 section 8: a TTL with its highest bit set counts as zero.
            ttl_s=0 if ttl_s >= 1 << 31 else ttl_s,
            data=data,
            zone=f"{name}.\t{ttl_s}\t{group}\t{kind}\t{zone}",
        )


def _name_at(data: bytes, at: int) -> tuple[str, int]:
    """The name at `at`, and where it ends there; pointers only lead backwards, so this always ends."""
    labels: list[str] = []
    after = -1
    length = 0
    for _ in range(_MOST_JUMPS + 128):
        if at >= len(data):
            raise PacketError("name cut off")
        size = data[at]
        if size & _POINTER == _POINTER:
            if at + 1 >= len(data):
                raise PacketError("name cut off")
            target = (size & ~_POINTER) << 8 | data[at + 1]
            if target >= at:
                raise PacketError("name points forward")
            after = at + 2 if after < 0 else after
            at = target
        elif size & _POINTER:
            raise PacketError("label of an unknown kind")
        elif size == 0:
            return ".".join(labels), at + 1 if after < 0 else after
        else:
            length += size + 1
            if length >= _LONGEST_NAME or at + 1 + size > len(data):
                raise PacketError("name too long or cut off")
            labels.append(_label(data[at + 1 : at + 1 + size]))
            at += 1 + size
    raise PacketError("name of too many parts")


def _label(raw: bytes) -> str:
    return "".join(
        chr(byte) if 0x20 < byte < 0x7F and byte not in b'."\\' else f"\\{byte:03d}" for byte in raw
    )


def _presented(kind: str, data: bytes, start: int, raw: bytes) -> tuple[str, str]:
    """The record's data as people write it and as zone files do; RFC 3597 form for types not known here."""
    reader = _Reader(data[: start + len(raw)], start)
    match kind:
        case "A" | "AAAA":
            if len(raw) != (4 if kind == "A" else 16):
                raise PacketError("address of a wrong length")
            return (str(ipaddress.ip_address(raw)),) * 2
        case "CNAME" | "NS" | "PTR":
            return _named("", reader.name())
        case "MX":
            (preference,) = reader.unpack(struct.Struct("!H"))
            return _named(f"{preference} ", reader.name())
        case "SRV":
            priority, weight, port = reader.unpack(struct.Struct("!HHH"))
            return _named(f"{priority} {weight} {port} ", reader.name())
        case "SOA":
            primary, mailbox = reader.name(), reader.name()
            numbers = " ".join(str(number) for number in reader.unpack(struct.Struct("!5I")))
            return f"{primary} {mailbox} {numbers}".lower(), f"{primary}. {mailbox}. {numbers}"
        case "TXT":
            texts = _texts(raw)
            return b"".join(texts).decode("utf-8", "replace"), " ".join(_quoted(text) for text in texts)
        case "CAA":
            flags, size = reader.unpack(struct.Struct("!BB"))
            tag = _label(reader.take(size))
            said = f"{flags} {tag} {_quoted(raw[2 + size :])}"
            return said, said
        case _:
            return (f"\\# {len(raw)} {raw.hex()}",) * 2


def _named(before: str, name: str) -> tuple[str, str]:
    return f"{before}{name.lower()}", f"{before}{name}."


def _texts(raw: bytes) -> list[bytes]:
    """The strings of a TXT record."""
    at = 0
    texts: list[bytes] = []
    while at < len(raw):
        end = at + 1 + raw[at]
        if end > len(raw):
            raise PacketError("text cut off")
        texts.append(raw[at + 1 : end])
        at = end
    return texts


def _quoted(text: bytes) -> str:
    return (
        '"'
        + "".join(
            f"\\{byte:03d}" if not 0x20 <= byte < 0x7F else f"\\{chr(byte)}" if byte in b'"\\' else chr(byte)
            for byte in text
        )
        + '"'
    )
