"""What a receiver is told: one frozen, rendered notice, the same for every channel."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from alerts.rule import Severity


class NoticeKind(StrEnum):
    """`trigger` opens an episode on a channel and `resolve` closes it; `update` and `reminder` come between.

    `test` and `report` are about no episode: they are never merged, and open no incident anywhere.
    """

    TRIGGER = "trigger"
    UPDATE = "update"
    REMINDER = "reminder"
    RESOLVE = "resolve"
    TEST = "test"
    REPORT = "report"


# These end an episode without anybody having seen that it is well.
NOT_SEEN_WELL: Final = frozenset({"rule_removed", "target_removed", "expired"})


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One message, rendered when it happened. `episode` is the deduplication key everywhere.

    Only an agent without memory gives a provider another one, `key`, which the next such agent can know.
    `title` is one line whose first 80 characters stand alone; `sms` has at most 160 characters of GSM-7;
    `body` is (heading, text) in the order to be read, the heading empty for the opening line. Times are wall
    seconds. `merged` are the notices a digest stands for. Nothing in here is secret.
    """

    kind: NoticeKind
    episode: str
    env: str
    alertname: str
    component: str
    severity: Severity
    title: str
    sms: str
    body: tuple[tuple[str, str], ...]
    labels: dict[str, str]
    at_s: float
    fired_at_s: float
    resolved_at_s: float | None = None
    ended: str | None = None
    value: float | None = None
    threshold: float | None = None
    affected: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    repeated: bool = False
    merged: tuple[Notice, ...] = ()
    key: str = ""

    @property
    def dedup_key(self) -> str:
        """Under which key a provider that merges messages keeps this one."""
        return self.key or self.episode

    @property
    def well(self) -> bool:
        """Whether it is over and was seen to be well."""
        return self.kind is NoticeKind.RESOLVE and self.ended not in NOT_SEEN_WELL

    @property
    def details(self) -> tuple[tuple[str, str], ...]:
        """The body without an opening line that the title says already."""
        (heading, opening), *rest = self.body or (("", ""),)
        return tuple(rest) if not heading and opening in self.title else self.body

    @property
    def text(self) -> str:
        """The body as plain text."""
        return "\n".join(f"{heading}: {text}" if heading else text for heading, text in self.body)
