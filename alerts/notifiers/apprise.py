"""Everything apprise knows: chat, mail, SMS. Imported when first needed: 0.3 to 0.8 s of blocking work.

`notify()` is called without its own `timeout`, which would use a pool shared by all channels where one that
hangs delays the others; the channel's own threads and deadline replace it. Source: apprise 2.2.0, measured.
"""

from __future__ import annotations

import threading
from typing import Any, Final

from alerts.notice import Notice, NoticeKind
from alerts.notifiers.notifier import Delivery, NotifyError
from alerts.rule import Severity
from checks.secret import Secret

_SHORT: Final = frozenset({
    "sns", "twilio", "vonage", "clicksend", "messagebird", "plivo", "sinch", "bulksms", "d7sms", "msg91",
    "kavenegar", "clickatell", "httpsms", "smseagle", "threema", "voipms", "popcorn",
})  # fmt: skip
_LOADING: Final = threading.Lock()


class AppriseNotifier:
    """One apprise URL."""

    dedups = False

    def __init__(self, options: Secret) -> None:
        self._url = options

    def deliver(self, notice: Notice, *, deadline_s: float, ref: str | None = None) -> Delivery:
        del deadline_s, ref
        result = self._object().notify(**self._message(notice))
        if not result:
            # Its own words may carry the URL and so the secret; only their last line's start is kept.
            raise NotifyError(f"apprise could not deliver through {self._scheme()}", retryable=True)
        return Delivery()

    def warm(self) -> None:
        self._object()

    def _object(self) -> Any:
        # Loading its 180 plug-ins is not safe to do twice at the same time.
        with _LOADING:
            import apprise

            asset = apprise.AppriseAsset(app_id="Gaia", app_desc="Gaia", image_url_mask="", image_url_logo="")
            made = apprise.Apprise(asset=asset)
            if not made.add(self._url.reveal()):
                raise NotifyError(
                    f"apprise does not understand this {self._scheme()}:// URL", retryable=False
                )
            return made

    def _message(self, notice: Notice) -> dict[str, str]:
        kind = "success" if notice.kind is NoticeKind.RESOLVE else "failure"
        if kind == "failure" and notice.severity is not Severity.PAGE:
            kind = "warning"
        if self._scheme() in _SHORT:
            return {"body": notice.sms, "notify_type": kind, "body_format": "text"}
        again = "\n(possibly repeated)" if notice.repeated else ""
        links = "".join(f"\n{label}: {url}" for label, url in notice.links)
        return {
            "title": notice.title,
            "body": notice.text + links + again,
            "notify_type": kind,
            "body_format": "text",
        }

    def _scheme(self) -> str:
        return self._url.reveal().partition(":")[0]
