"""The head of an HTTP/1.1 request, read strictly: two readings of one message smuggle requests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_TARGET: Final = re.compile(rb"[\x21-\x7e]+")
_MAX_LENGTH: Final = 1 << 50


class HeadError(ValueError):
    """The head is not one, or could be read in two ways."""


class Head(Struct, frozen=True, kw_only=True):
    """A request without its body. Header names are lower case; `path` and `query` are as they were sent."""

    method: str
    path: str
    query: str
    version: str
    headers: Mapping[str, str]
    length: int
    chunked: bool
    keep_alive: bool
    expects_continue: bool


def parse_head(content: bytes) -> Head:
    """The head in `content`, which ends before the empty line. Raises HeadError."""
    lines = content.lstrip(b"\r\n").split(b"\r\n")
    words = lines[0].split(b" ")
    if len(words) != 3 or words[2] not in {b"HTTP/1.1", b"HTTP/1.0"}:
        raise HeadError("not an HTTP/1.1 request line")
    method, target, version = words
    if not _TOKEN.fullmatch(method) or not _TARGET.fullmatch(target):
        raise HeadError("not an HTTP/1.1 request line")
    headers = _headers(lines[1:])
    path, query = _path_and_query(target.decode("ascii"))
    if version == b"HTTP/1.1" and "host" not in headers:
        raise HeadError("an HTTP/1.1 request needs a Host")
    encoding = headers.get("transfer-encoding")
    if encoding is not None and (encoding.lower() != "chunked" or "content-length" in headers):
        raise HeadError("this Transfer-Encoding is not understood")
    connection = {word.strip().lower() for word in headers.get("connection", "").split(",")}
    keep_alive = "keep-alive" in connection if version == b"HTTP/1.0" else "close" not in connection
    return Head(
        method=method.decode("ascii"),
        path=path,
        query=query,
        version=version.decode("ascii"),
        headers=headers,
        length=_length(headers.get("content-length", "0")),
        chunked=encoding is not None,
        keep_alive=keep_alive,
        expects_continue=headers.get("expect", "").lower() == "100-continue" and version == b"HTTP/1.1",
    )


def _headers(lines: list[bytes]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise HeadError("a header line cannot be read")
        key = name.decode("ascii").lower()
        text = value.strip(b" \t").decode("latin-1")
        if key in headers:
            if key in {"content-length", "transfer-encoding", "host", "content-type", "content-encoding"}:
                raise HeadError(f"{key} is given twice")
            text = f"{headers[key]}, {text}"
        headers[key] = text
    return headers


def _path_and_query(target: str) -> tuple[str, str]:
    if target.startswith(("http://", "https://")):
        target = "/" + target.split("://", 1)[1].partition("/")[2]
    path, _, query = target.partition("?")
    return path, query


def _length(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 16 or int(text) > _MAX_LENGTH:
        raise HeadError("Content-Length is not a number")
    return int(text)
