"""One way to reach somebody: a receiver's URL or block, with its own queue, limits and breaker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from alerts.receiver import (
    Alertmanager,
    Console,
    Opsgenie,
    Owner,
    Pagerduty,
    Receiver,
    Slack,
    Smtp,
    Webhook,
)
from alerts.rule import Severity
from checks.secret import Secret

# What the services allow; apprise's by URL scheme.
_PER_MINUTE: Final = {"slack": 60, "tgram": 20, "smtp": 10, "mailto": 10, "mailtos": 10}
_USUAL_PER_MINUTE: Final = 30

Options = Alertmanager | Console | Opsgenie | Pagerduty | Slack | Smtp | Webhook | Secret


class Channel(Struct, frozen=True, kw_only=True):
    """`name` is `receiver/kind`, numbered when there are several: a metric label and outbox key.

    `calls_itself`: nothing in this environment is left to Alertmanager, so what it is told is marked as done.
    """

    name: str
    kind: str
    receiver: str
    options: Options
    settings: Receiver
    env: str = ""
    calls_itself: bool = True

    @property
    def keyed(self) -> bool:
        """Whether the provider keeps an incident open under our key until a message with that key ends it.

        Alertmanager forgets by itself what nobody confirms; chat and mail keep nothing open.
        """
        return self.kind in ("pagerduty", "opsgenie")

    @property
    def per_minute(self) -> int:
        """How many messages may leave in a minute; ten more at once."""
        if self.settings.max_per_minute is not None:
            return self.settings.max_per_minute
        scheme = self.options.reveal().partition(":")[0] if isinstance(self.options, Secret) else self.kind
        return _PER_MINUTE.get(scheme, _USUAL_PER_MINUTE)

    def takes(self, severity: Severity) -> bool:
        """Whether this severity goes here at all."""
        return severity in self.settings.severities


def channels(receivers: Mapping[str, Receiver], env: str) -> tuple[Channel, ...]:
    """Every channel of one environment, in the order of gaia.yaml."""
    here = {
        receiver: settings
        for receiver, settings in receivers.items()
        if not settings.environments or env in settings.environments
    }
    calls_itself = all(settings.owner is Owner.AGENT for settings in here.values())
    return tuple(
        Channel(
            name=name, kind=kind, receiver=receiver, options=options, settings=settings, env=env,
            calls_itself=calls_itself,
        )
        for receiver, settings in here.items()
        for name, kind, options in _named(receiver, settings)
    )  # fmt: skip


def _named(receiver: str, settings: Receiver) -> Iterable[tuple[str, str, Options]]:
    blocks: tuple[tuple[str, Options | None], ...] = (
        ("console", settings.console),
        ("webhook", settings.webhook),
        ("pagerduty", settings.pagerduty),
        ("opsgenie", settings.opsgenie),
        ("slack", settings.slack),
        ("alertmanager", settings.alertmanager),
        ("smtp", settings.smtp),
    )
    for kind, options in blocks:
        if options is not None:
            yield f"{receiver}/{kind}", kind, options
    for number, url in enumerate(settings.notify, start=1):
        if url.reveal().startswith(("http://", "https://")):
            yield f"{receiver}/notify-{number}", "webhook", Webhook(url=url)
        else:
            yield f"{receiver}/notify-{number}", "apprise", url


def called(
    every: Iterable[Channel], severity: Severity, receivers: tuple[str, ...] = ()
) -> tuple[Channel, ...]:
    """The channels an alert of this severity goes to; `receivers` empty means all that take it."""
    return tuple(
        channel
        for channel in every
        if channel.takes(severity) and (not receivers or channel.receiver in receivers)
    )
