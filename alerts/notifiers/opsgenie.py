"""Opsgenie Alert API: the alias is the episode, so a close works from any process.

Source: https://docs.opsgenie.com/docs/alert-api
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

import msgspec

from alerts.notice import Notice, NoticeKind
from alerts.notifiers import http
from alerts.notifiers.notifier import Delivery
from alerts.receiver import Opsgenie
from alerts.rule import Severity

_MESSAGE_LIMIT: Final = 130
_DESCRIPTION_LIMIT: Final = 15_000


class OpsgenieNotifier:
    """One API key. Opsgenie reminds by itself, so our reminders are not sent."""

    dedups = True

    def __init__(self, options: Opsgenie) -> None:
        self._options = options

    def deliver(self, notice: Notice, *, deadline_s: float, ref: str | None = None) -> Delivery:
        del ref
        if notice.kind in (NoticeKind.REMINDER, NoticeKind.REPORT):
            return Delivery()
        if notice.kind is NoticeKind.TEST:
            self._post(msgspec.structs.replace(notice, kind=NoticeKind.TRIGGER), deadline_s)
            # Nobody would close it: a test leaves no alert behind.
            return self._post(msgspec.structs.replace(notice, kind=NoticeKind.RESOLVE), deadline_s)
        return self._post(notice, deadline_s)

    def warm(self) -> None:
        http.warm()

    def _post(self, notice: Notice, deadline_s: float) -> Delivery:
        url = self._options.url.rstrip("/")
        payload: dict[str, object]
        if notice.kind is NoticeKind.RESOLVE:
            url += f"/{quote(notice.dedup_key, safe='')}/close?identifierType=alias"
            payload = {"source": "Gaia", "note": notice.text[:_DESCRIPTION_LIMIT]}
        else:
            payload = self._alert(notice)
        answer = http.request(
            "POST",
            url,
            deadline_s=deadline_s,
            body=msgspec.json.encode(payload),
            headers={
                "Content-Type": "application/json",
                "Authorization": f"GenieKey {self._options.api_key.reveal()}",
            },
        )
        return Delivery(status=answer.status)

    def _alert(self, notice: Notice) -> dict[str, object]:
        return {
            "message": notice.title[:_MESSAGE_LIMIT],
            "alias": notice.dedup_key,
            "description": notice.text[:_DESCRIPTION_LIMIT],
            "entity": notice.component,
            "source": "Gaia",
            "priority": "P1" if notice.severity is Severity.PAGE else "P3",
            "tags": [notice.env, notice.alertname],
            "details": dict(notice.links),
        }
