"""What `gaia up` tells: one line per happening, readable in a terminal and in a file."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import IO, Final, TextIO

_GLYPHS: Final = {
    "up": "✓", "degraded": "!", "down": "✗", "asleep": "z", "starting": "…", "unknown": "?",
    "firing": "!", "resolved": "✓",
}  # fmt: skip
_COLOURS: Final = {
    "up": "32", "resolved": "32", "degraded": "33", "unknown": "33", "down": "31", "firing": "31",
}  # fmt: skip
_WORD_WIDTH: Final = 9
_NAME_WIDTH: Final = 16


class Narration:
    """Writes whole lines, each flushed. Colour only on a terminal and without NO_COLOR."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self.colour = out.isatty() and not os.environ.get("NO_COLOR")
        self._glyphs = (out.encoding or "ascii").lower().replace("-", "") in {"utf8", "utf8sig"}
        self._lock = threading.Lock()
        self._transient = False
        self._reader_left = False

    def plain(self, text: str) -> None:
        """Lines as they are."""
        with self._lock:
            self._write(text)

    def part(self, name: str, state: str, text: str) -> None:
        """One happening now: when, how it is, what, why."""
        first, *more = text.splitlines() or [""]
        glyph = f"{_GLYPHS.get(state, '·')} " if self._glyphs else ""
        word = self._tinted(state, f"{glyph}{state:<{_WORD_WIDTH}}")
        clock = time.strftime("%H:%M:%S", time.gmtime())
        with self._lock:
            self._write("\n".join([f"{clock}  {word} {name:<{_NAME_WIDTH}} {first}".rstrip(), *more]))

    def progress(self, text: str) -> None:
        """What is being waited for: one line that is written over on a terminal, nothing elsewhere."""
        if not self._out.isatty():
            return
        with self._lock:
            self._out.write(f"\r\x1b[K{text}")
            self._out.flush()
            self._transient = bool(text)

    def follow(self, lines: IO[bytes]) -> None:
        """Pass on what the agent prints, its pages, until it ends."""
        threading.Thread(target=self._pass_on, args=(lines,), daemon=True).start()

    def _pass_on(self, lines: IO[bytes]) -> None:
        with lines:
            for line in lines:
                self.plain(line.decode("utf-8", "replace").rstrip("\r\n"))

    def _tinted(self, state: str, text: str) -> str:
        colour = _COLOURS.get(state)
        return f"\x1b[{colour}m{text}\x1b[0m" if self.colour and colour else text

    def _write(self, text: str) -> None:
        if self._reader_left:
            return
        if self._transient:
            self._out.write("\r\x1b[K")
            self._transient = False
        try:
            self._out.write(f"{text}\n")
            self._out.flush()
        except BrokenPipeError:
            # `gaia up | head`: the platform goes on, there is nobody left to tell.
            self._reader_left = True


def standard_output() -> Narration:
    """To this process's standard output, whatever its encoding can show."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace", line_buffering=True)
    return Narration(sys.stdout)
