"""Every kind of notifier by name; its module is imported when a channel first needs it."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from alerts.channel import Channel
from alerts.notifiers.notifier import Notifier

# One line per kind: the block's name in gaia.yaml, and the module and class that serve it.
KINDS: Final[dict[str, tuple[str, str]]] = {
    "console": ("alerts.notifiers.console", "ConsoleNotifier"),
    "webhook": ("alerts.notifiers.webhook", "WebhookNotifier"),
    "apprise": ("alerts.notifiers.apprise", "AppriseNotifier"),
    "pagerduty": ("alerts.notifiers.pagerduty", "PagerdutyNotifier"),
    "opsgenie": ("alerts.notifiers.opsgenie", "OpsgenieNotifier"),
    "slack": ("alerts.notifiers.slack", "SlackNotifier"),
    "alertmanager": ("alerts.notifiers.alertmanager", "AlertmanagerNotifier"),
    "smtp": ("alerts.notifiers.smtp", "SmtpNotifier"),
}


def build(channel: Channel) -> Notifier:
    """The notifier of a channel. Raises KeyError for an unknown kind."""
    module, name = KINDS[channel.kind]
    kind: Any = getattr(import_module(module), name)  # Any: each kind takes its own options class.
    made: Notifier = kind(channel.options)
    return made
