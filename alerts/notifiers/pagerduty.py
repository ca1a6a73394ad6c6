"""PagerDuty Events API v2, deduplicated by episode.

Source: https://developer.pagerduty.com/docs/events-api-v2-overview
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec

from alerts.notice import Notice, NoticeKind
from alerts.notifiers import http
from alerts.notifiers.notifier import Delivery
from alerts.receiver import Pagerduty
from alerts.rule import Severity

_SUMMARY_LIMIT: Final = 1024


class PagerdutyNotifier:
    """One integration. PagerDuty reminds and escalates by itself, so our reminders are not sent."""

    dedups = True

    def __init__(self, options: Pagerduty) -> None:
        self._options = options

    def deliver(self, notice: Notice, *, deadline_s: float, ref: str | None = None) -> Delivery:
        del ref
        if notice.kind in (NoticeKind.REMINDER, NoticeKind.REPORT):
            return Delivery()
        status = self._send(self._event(notice), deadline_s)
        if notice.kind is NoticeKind.TEST:
            # Nobody would close it: a test leaves no incident behind.
            over = msgspec.structs.replace(notice, kind=NoticeKind.RESOLVE)
            status = self._send(self._event(over), deadline_s)
        return Delivery(status=status)

    def _send(self, event: dict[str, object], deadline_s: float) -> int:
        answer = http.request(
            "POST",
            self._options.url,
            deadline_s=deadline_s,
            body=msgspec.json.encode(event),
            headers={"Content-Type": "application/json"},
        )
        return answer.status

    def warm(self) -> None:
        http.warm()

    def _event(self, notice: Notice) -> dict[str, object]:
        event: dict[str, object] = {
            "routing_key": self._options.routing_key.reveal(),
            "dedup_key": notice.dedup_key,
            "event_action": "resolve" if notice.kind is NoticeKind.RESOLVE else "trigger",
            "client": "Gaia",
        }
        if notice.kind is NoticeKind.RESOLVE:
            return event
        return event | {
            "payload": {
                "summary": notice.title[:_SUMMARY_LIMIT],
                "source": notice.component or notice.env,
                "severity": "critical" if notice.severity is Severity.PAGE else "warning",
                "timestamp": datetime.fromtimestamp(notice.fired_at_s, tz=UTC).isoformat(),
                "component": notice.component,
                "group": notice.env,
                "class": notice.alertname,
                "custom_details": {heading or "What": text for heading, text in notice.body},
            },
            "links": [{"href": url, "text": label} for label, url in notice.links],
        }
