"""Whom to call, as written in gaia.yaml: receivers, their channels and their limits."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec

from alerts.rule import Severity
from checks.secret import Secret
from checks.units import Duration


class Webhook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POSTs Alertmanager's v4 JSON; with `secret` the body is signed (HMAC-SHA256, X-Gaia-Signature)."""

    url: Secret
    secret: Secret | None = None
    headers: dict[str, Secret] = {}


class Pagerduty(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PagerDuty Events v2, deduplicated by episode."""

    routing_key: Secret
    url: str = "https://events.pagerduty.com/v2/enqueue"


class Opsgenie(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Opsgenie Alert API, alias = episode."""

    api_key: Secret
    url: str = "https://api.opsgenie.com/v2/alerts"


class Slack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Slack: with `token` and `channel` one message per incident is edited and threaded.

    With only an incoming `webhook` each notice is a message of its own.
    """

    token: Secret | None = None
    channel: str | None = None
    webhook: Secret | None = None
    url: str = "https://slack.com/api"

    def __post_init__(self) -> None:
        if self.webhook is None and (self.token is None or self.channel is None):
            raise ValueError("slack needs either `webhook`, or `token` and `channel`")


class Alertmanager(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pushes to Alertmanager's v2 API: every peer, never a load balancer."""

    urls: tuple[Secret, ...]


class Smtp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Mail: text first, threads by incident."""

    host: str
    to: tuple[str, ...]
    sender: str
    port: int = 587
    username: str | None = None
    password: Secret | None = None
    starttls: bool = True


class Console(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One readable line per notice on standard output."""

    colour: bool = False


class Owner(StrEnum):
    """Who calls a receiver: the agent, or the Alertmanager it pushes to."""

    AGENT = "agent"
    ALERTMANAGER = "alertmanager"


class Receiver(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody to call, through one or several channels.

    `notify` takes apprise URLs; a plain http(s) URL there is a webhook. Each URL and each block is a channel
    with its own threads, queue and breaker. `failover` names the receiver that gets a page when this one
    has not taken it for a minute. Reminders repeat after `repeat_page` and `repeat_chat`, 0s for never.
    With `owner: alertmanager` this receiver is left to the Alertmanager that some receiver's `alertmanager`
    block names; its own channels take over while no Alertmanager accepted anything for a minute. `timezone`
    (such as Europe/Berlin) adds the reader's time of day to UTC. More messages than `max_per_minute` are
    merged, never dropped; by default it is what the service allows: 60 for Slack, 20 for Telegram, 10 for
    mail, else 30.
    """

    notify: tuple[Secret, ...] = ()
    webhook: Webhook | None = None
    pagerduty: Pagerduty | None = None
    opsgenie: Opsgenie | None = None
    slack: Slack | None = None
    alertmanager: Alertmanager | None = None
    smtp: Smtp | None = None
    console: Console | None = None
    severities: tuple[Severity, ...] = (Severity.PAGE, Severity.CHAT)
    environments: tuple[str, ...] = ()
    send_resolved: bool = True
    failover: str | None = None
    owner: Owner = Owner.AGENT
    timezone: str | None = None
    repeat_page: Duration = Duration(4 * 3600)
    repeat_chat: Duration = Duration(24 * 3600)
    timeout: Duration = Duration(10)
    max_per_minute: int | None = None


class DeadMan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A URL that is fetched while all is well here, so that somebody else notices when it stops."""

    url: Secret
    every: Duration = Duration(60)


class ReportSchedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The noise report (`gaia report`) of `last`, sent to `receiver` at the times of `cron` (UTC)."""

    receiver: str
    cron: str = "0 8 * * 1"
    last: Duration = Duration(7 * 86400)


class EscalationStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Also call `receiver` when nobody acknowledged within `after`."""

    receiver: str
    after: Duration


class MaintenanceWindow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A planned silence, for `targets` or, when empty, for everything.

    `cron` (five fields, UTC) opens it for `lasts` again and again; `starts` opens it once, until `ends` or
    for `lasts`. Times are such as 2026-11-28T22:00:00Z.
    """

    cron: str | None = None
    starts: str | None = None
    ends: str | None = None
    lasts: Duration | None = None
    targets: tuple[str, ...] = ()
    comment: str = ""

    def __post_init__(self) -> None:
        if (self.cron is None) == (self.starts is None):
            raise ValueError("a window needs either `cron`, or `starts` for one that opens once")
        if self.cron is not None and (self.lasts is None or self.ends is not None):
            raise ValueError("a window that `cron` opens needs `lasts`: how long it stays open")
        if self.starts is not None:
            if (self.ends is None) == (self.lasts is None):
                raise ValueError("a window with `starts` needs either `ends` or `lasts`")
            if self.span_s[1] <= self.span_s[0]:
                raise ValueError("a window must end after it starts")

    @property
    def span_s(self) -> tuple[float, float]:
        """When one that opens once is open, in wall seconds. Raises ValueError for a time that is none."""
        starts_s = wall_s(self.starts or "")
        return starts_s, starts_s + self.lasts if self.lasts is not None else wall_s(self.ends or "")

    @property
    def name(self) -> str:
        """What it is called."""
        return self.comment or self.cron or f"from {self.starts}"


def wall_s(text: str) -> float:
    """The wall second of a time with its zone. Raises ValueError with the remedy."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(f'"{text}" is not a time: write one such as 2026-11-28T22:00:00Z')
    return moment.timestamp()
