"""A channel that takes nothing is said through the others: an alert like any other, with its end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from alerts.external import ExternalAlert
from alerts.rule import Severity
from alerts.waiting import Waiting
from alerts.words import span

NAME: Final = "channel_failing"
_AFTER_S: Final = 60.0
# How long a message that was refused for good is a trouble of its channel, unless it takes another.
_REFUSED_S: Final = 900.0
_EVERY_S: Final = 15.0


class Trouble(Struct, frozen=True, kw_only=True):
    """What one channel does not take: `waiting` messages, the oldest for `oldest_s`, at most `severity`.

    With nothing waiting, the last one was refused for good.
    """

    channel: str
    waiting: int
    oldest_s: float
    severity: Severity
    error: str


def trouble_of(
    channel: str, queue: Iterable[Waiting], refused: Waiting | None, error: str, now: float
) -> Trouble | None:
    """What a channel does not take: what has waited too long, else what it refused for good lately."""
    late = [one for one in queue if now - one.since >= _AFTER_S and one.notice.alertname != NAME]
    if late:
        return Trouble(
            channel=channel,
            waiting=len(late),
            oldest_s=now - min(one.since for one in late),
            severity=min((one.notice.severity for one in late), key=list(Severity).index),
            error=error,
        )
    if refused is None or now - refused.since >= _REFUSED_S or refused.notice.alertname == NAME:
        return None
    said = refused.row.last_error[:200]
    return Trouble(channel=channel, waiting=0, oldest_s=0.0, severity=refused.notice.severity, error=said)


class Troubles:
    """Says what began and what ended. Called about once a second; costs nothing in between."""

    def __init__(self) -> None:
        self._open: set[str] = set()
        self._next_s = 0.0

    def tick(self, found: Iterable[Trouble], env: str, now_s: float) -> tuple[ExternalAlert, ...]:
        """The alerts to be judged now: those that go on, and the ends of those that do not."""
        if self._next_s - _EVERY_S <= now_s < self._next_s:
            return ()
        self._next_s = now_s + _EVERY_S
        troubles = {one.channel: one for one in found}
        over = self._open - set(troubles)
        self._open = set(troubles)
        return (
            *(_alert(one, env) for one in troubles.values()),
            *(ExternalAlert(labels=_labels(name, env), ends_at_s=now_s) for name in sorted(over)),
        )


def _labels(channel: str, env: str) -> dict[str, str]:
    return {"alertname": NAME, "env": env, "channel": channel}


def _alert(trouble: Trouble, env: str) -> ExternalAlert:
    receiver, _, kind = trouble.channel.partition("/")
    if trouble.waiting:
        noun = "message waits" if trouble.waiting == 1 else "messages wait, the oldest"
        said = f"{trouble.waiting} {noun} for {span(trouble.oldest_s)}"
    else:
        said = "the last message was refused"
    severity = "critical" if trouble.severity is Severity.PAGE else "warning"
    return ExternalAlert(
        labels=_labels(trouble.channel, env) | {"severity": severity},
        annotations={
            "summary": f"cannot reach {receiver} through {kind}",
            "description": f"{said}: {trouble.error or 'no answer'}",
        },
    )
