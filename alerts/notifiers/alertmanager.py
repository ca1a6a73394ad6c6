"""Pushes to Alertmanager's v2 API: every peer, never a load balancer, and again until it is over.

An alert carries an end in the near future that each re-send moves, so that it ends by itself if we die.
Source: https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable
from typing import Final

import msgspec

from alerts.notice import Notice, NoticeKind
from alerts.notifiers import http
from alerts.notifiers.notifier import Delivery, NotifyError
from alerts.notifiers.webhook import rfc3339
from alerts.receiver import Alertmanager

_ENDS_AFTER_S: Final = 180.0
WATCHDOG: Final = "Watchdog"


class AlertmanagerNotifier:
    """One cluster. Accepted as soon as one peer took it; every peer is told, a slow one delays no other."""

    dedups = True

    def __init__(self, options: Alertmanager) -> None:
        self._urls = options.urls

    def deliver(self, notice: Notice, *, deadline_s: float, ref: str | None = None) -> Delivery:
        del ref
        if notice.kind in (NoticeKind.REMINDER, NoticeKind.REPORT):
            # It repeats by itself, and a report is no alert.
            return Delivery()
        alerts = [posted(notice, time.time())]
        answers: queue.SimpleQueue[int | Exception] = queue.SimpleQueue()

        def tell(url: str) -> None:
            try:
                answers.put(post(url, alerts, deadline_s=deadline_s))
            except Exception as error:  # the first that took it decides
                answers.put(error)

        for url in self._urls:
            threading.Thread(target=tell, args=(url.reveal(),), name="alertmanager", daemon=True).start()
        failures = []
        for _ in self._urls:
            answer = answers.get()
            if isinstance(answer, int):
                return Delivery(status=answer)
            failures.append(answer)
        # One that may take it later is worth trying again, whatever the others said.
        raise next(
            (one for one in failures if not isinstance(one, NotifyError) or one.retryable), failures[0]
        )

    def warm(self) -> None:
        http.warm()


def post(url: str, alerts: Iterable[dict[str, object]], *, deadline_s: float) -> int:
    """POST alerts to one peer and return its status. Raises NotifyError."""
    answer = http.request(
        "POST",
        url.rstrip("/") + "/api/v2/alerts",
        deadline_s=deadline_s,
        body=msgspec.json.encode(list(alerts)),
        headers={"Content-Type": "application/json"},
    )
    return answer.status


def posted(notice: Notice, now_s: float) -> dict[str, object]:
    """The notice as a postable alert. Volatile words go to annotations: labels are identity there."""
    over = notice.kind is NoticeKind.RESOLVE
    links = dict(notice.links)
    ends_at_s = (notice.resolved_at_s or notice.at_s) if over else now_s + _ENDS_AFTER_S
    annotations = {"summary": notice.title, "description": notice.text}
    if "Runbook" in links:
        annotations["runbook_url"] = links["Runbook"]
    return {
        "labels": notice.labels,
        "annotations": annotations,
        "startsAt": rfc3339(notice.fired_at_s),
        "endsAt": rfc3339(ends_at_s),
        "generatorURL": links.get("Open", ""),
    }


def watchdog(env: str, now_s: float) -> dict[str, object]:
    """An alert that is always on: when it goes, the agent is gone."""
    return {
        "labels": {"alertname": WATCHDOG, "env": env, "severity": "none", "notified_by": "agent"},
        "annotations": {
            "summary": f"{env}: the agent is alive",
            "description": "Always on. Route it to a dead man's switch: its absence means nobody watches.",
        },
        "endsAt": rfc3339(now_s + _ENDS_AFTER_S),
    }
