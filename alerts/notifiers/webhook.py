"""Webhook: Alertmanager's v4 JSON with our own extra key `gaia`, signed.

Any receiver of Alertmanager webhooks understands it unchanged. `X-Gaia-Signature: t=<unix>,v1=<hex>` is the
HMAC-SHA256 of `<unix>.<body>`; `Idempotency-Key` names the message, so a repeat can be recognised.
Source: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
"""

from __future__ import annotations

import hashlib
import hmac
import time
from datetime import UTC, datetime
from typing import Final

import msgspec

from alerts.notice import Notice, NoticeKind
from alerts.notifiers import http
from alerts.notifiers.notifier import Delivery
from alerts.receiver import Webhook

_NEVER: Final = "0001-01-01T00:00:00Z"


class Alert(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One alert as Alertmanager writes it."""

    status: str
    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: str
    ends_at: str
    generator_url: str = msgspec.field(name="generatorURL")
    fingerprint: str


class Envelope(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The body, version 4."""

    version: str
    group_key: str
    truncated_alerts: int
    status: str
    receiver: str
    group_labels: dict[str, str]
    common_labels: dict[str, str]
    common_annotations: dict[str, str]
    external_url: str = msgspec.field(name="externalURL")
    alerts: tuple[Alert, ...]
    gaia: Notice


class WebhookNotifier:
    """POSTs to one URL."""

    dedups = False

    def __init__(self, options: Webhook) -> None:
        self._options = options

    def deliver(self, notice: Notice, *, deadline_s: float, ref: str | None = None) -> Delivery:
        del ref
        body = msgspec.json.encode(envelope(notice))
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": f"{notice.episode}:{notice.kind}:{round(notice.at_s * 1000)}",
            **{name: value.reveal() for name, value in self._options.headers.items()},
        }
        if self._options.secret is not None:
            headers["X-Gaia-Signature"] = signature(self._options.secret.reveal(), body, round(time.time()))
        answer = http.request(
            "POST", self._options.url.reveal(), deadline_s=deadline_s, body=body, headers=headers
        )
        return Delivery(status=answer.status)

    def warm(self) -> None:
        http.warm()


def signature(secret: str, body: bytes, at_s: int) -> str:
    """The value of X-Gaia-Signature."""
    digest = hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at_s},v1={digest}"


def envelope(notice: Notice) -> Envelope:
    """The notice as Alertmanager would send it; a digest carries every alert it stands for."""
    over = notice.kind is NoticeKind.RESOLVE
    alerts = tuple(_alert(one, over=over) for one in notice.merged or (notice,))
    links = dict(notice.links)
    return Envelope(
        version="4",
        group_key=notice.episode,
        truncated_alerts=0,
        status="resolved" if over else "firing",
        receiver="gaia",
        group_labels={"env": notice.env}
        if notice.merged
        else {"env": notice.env, "service": notice.component},
        common_labels=_common(tuple(alert.labels for alert in alerts)),
        common_annotations=_common(tuple(alert.annotations for alert in alerts)),
        external_url=links.get("Open", ""),
        alerts=alerts,
        gaia=notice,
    )


def _alert(notice: Notice, *, over: bool) -> Alert:
    annotations = {"summary": notice.title, "description": notice.text}
    links = dict(notice.links)
    if "Runbook" in links:
        annotations["runbook_url"] = links["Runbook"]
    return Alert(
        status="resolved" if over else "firing",
        labels=notice.labels,
        annotations=annotations,
        starts_at=rfc3339(notice.fired_at_s),
        ends_at=rfc3339(notice.resolved_at_s or notice.at_s) if over else _NEVER,
        generator_url=links.get("Open", ""),
        fingerprint=notice.episode.split(":", 1)[0],
    )


def _common(tables: tuple[dict[str, str], ...]) -> dict[str, str]:
    """What all of them say alike."""
    first, *others = tables
    return {name: text for name, text in first.items() if all(one.get(name) == text for one in others)}


def rfc3339(at_s: float) -> str:
    """A wall second as Go writes it."""
    moment = datetime.fromtimestamp(at_s, tz=UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
