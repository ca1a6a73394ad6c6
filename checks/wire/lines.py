"""Lines from a stream, each and all of them limited."""

from __future__ import annotations

from typing import Final

from checks.reason import Reason
from checks.wire.fault import Fault
from checks.wire.stream import Stream

_LONGEST_LINE: Final = 65536
_MOST_BYTES: Final = 1 << 20


class LineReader:
    """Reads lines that end in LF or CRLF."""

    __slots__ = ("_buffer", "_read_bytes", "_stream")

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._buffer = b""
        self._read_bytes = 0

    @property
    def pending(self) -> bytes:
        """What was read and not yet returned."""
        return self._buffer

    async def line(self) -> str | None:
        """The next line without its end; None at the end of the stream. Raises Fault and OSError."""
        while b"\n" not in self._buffer:
            data = await self._stream.receive()
            if not data:
                rest, self._buffer = self._buffer, b""
                return rest.decode("utf-8", "replace") if rest else None
            self._read_bytes += len(data)
            self._buffer += data
            if self._read_bytes > _MOST_BYTES:
                raise Fault(Reason.BODY_TOO_LARGE, f"sends more than {_MOST_BYTES} bytes")
            if len(self._buffer) > _LONGEST_LINE and b"\n" not in self._buffer:
                raise Fault(Reason.BODY_TOO_LARGE, f"sends a line longer than {_LONGEST_LINE} bytes")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.removesuffix(b"\r").decode("utf-8", "replace")
