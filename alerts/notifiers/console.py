"""One readable line per notice on standard output."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Final

from alerts.notice import Notice, NoticeKind
from alerts.notifiers.notifier import Delivery
from alerts.receiver import Console
from alerts.rule import Severity

_WORDS: Final = {
    NoticeKind.RESOLVE: "OK",
    NoticeKind.UPDATE: "UPDATE",
    NoticeKind.REMINDER: "STILL",
    NoticeKind.TEST: "TEST",
    NoticeKind.REPORT: "REPORT",
}
_COLOURS: Final = {"PAGE": "\x1b[1;31m", "CHAT": "\x1b[33m", "OK": "\x1b[32m"}


class ConsoleNotifier:
    """For people who watch a terminal, and for `gaia up`."""

    dedups = False

    def __init__(self, options: Console) -> None:
        self._colour = options.colour

    def deliver(self, notice: Notice, *, deadline_s: float, ref: str | None = None) -> Delivery:
        del deadline_s, ref
        print(line(notice, colour=self._colour), file=sys.stdout, flush=True)  # noqa: T201  # its one purpose
        return Delivery()

    def warm(self) -> None:
        pass


def line(notice: Notice, *, colour: bool = False) -> str:
    """`12:03:20  PAGE  PROD · postgres is down: ... | affects auth, asset, chat`."""
    word = _WORDS.get(notice.kind, "PAGE" if notice.severity is Severity.PAGE else "CHAT")
    if word == "OK" and not notice.well:
        word = "CLOSED"
    shown = f"{_COLOURS.get(word, '')}{word:<6}\x1b[0m" if colour else f"{word:<6}"
    affected = f" | affects {', '.join(notice.affected)}" if notice.affected and word != "OK" else ""
    again = " (possibly repeated)" if notice.repeated else ""
    return f"{datetime.fromtimestamp(notice.at_s, tz=UTC):%H:%M:%S}  {shown}  {notice.title}{affected}{again}"
