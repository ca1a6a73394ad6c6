"""Pushes to Alertmanager's v2 API: every peer, never a load balancer, and again until it is over.

An alert carries an end in the near future that each re-send moves, so that it ends by itself if we die.
Source: https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml
"""

from __future__ import annotations

import time
from typing import Final

import msgspec

from alerts.notice import Notice, NoticeKind
from alerts.notifiers import http
from alerts.notifiers.notifier import Delivery, NotifyError
from alerts.notifiers.webhook import rfc3339
from alerts.receiver import Alertmanager

RESEND_S: Final = 30.0
_ENDS_AFTER_S: Final = 180.0


class AlertmanagerNotifier:
    """One cluster. Accepted when at least one peer took it; every peer is told."""

    dedups = True

    def __init__(self, options: Alertmanager) -> None:
        self._urls = options.urls

    def deliver(self, notice: Notice, *, deadline_s: float, ref: str | None = None) -> Delivery:
        del ref
        body = msgspec.json.encode([posted(notice, time.time())])
        status: int | None = None
        failures: list[NotifyError] = []
        for url in self._urls:
            try:
                answer = http.request(
                    "POST",
                    url.reveal().rstrip("/") + "/api/v2/alerts",
                    deadline_s=deadline_s / len(self._urls),
                    body=body,
                    headers={"Content-Type": "application/json"},
                )
            except NotifyError as error:
                failures.append(error)
            else:
                status = answer.status
        if status is None:
            raise failures[-1]
        return Delivery(status=status)

    def warm(self) -> None:
        http.warm()


def posted(notice: Notice, now_s: float) -> dict[str, object]:
    """The notice as a postable alert. Volatile words go to annotations: labels are identity there."""
    over = notice.kind is NoticeKind.RESOLVE
    links = dict(notice.links)
    ends_at_s = (notice.resolved_at_s or notice.at_s) if over else now_s + _ENDS_AFTER_S
    return {
        "labels": notice.labels | {"notified_by": "agent"},
        "annotations": {"summary": notice.title, "description": notice.text},
        "startsAt": rfc3339(notice.fired_at_s),
        "endsAt": rfc3339(ends_at_s),
        "generatorURL": links.get("Open", ""),
    }
