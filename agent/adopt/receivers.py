"""Alertmanager's receivers as ours: one block each; secrets become variables and are never copied.

Source: https://prometheus.io/docs/alerting/latest/configuration/#receiver-integration-settings
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from agent.adopt.adopted import Adopted, Table, Value, entries_of, items_of, text_of
from agent.platform.tree import Mapping, Node

_WORDS: Final = frozenset({
    "title", "text", "message", "html", "subject", "headers", "description", "details", "fields",
    "actions", "color", "username", "icon_emoji", "icon_url", "pretext", "fallback", "callback_id",
    "footer", "short_fields", "title_link", "image_url", "thumb_url", "mrkdwn_in", "link_names",
    "client", "client_url", "class", "component", "group", "severity", "images", "links",
    "priority", "tags", "note", "source", "entity", "responders", "parse_mode", "content",
    "avatar_url", "summary",
})  # fmt: skip
_TOKEN_LONG: Final = 16


class ReceiverReader:
    """Reads the `receivers` of one file, with its `global` defaults."""

    def __init__(self, root: Mapping, adopted: Adopted) -> None:
        self._global = entries_of(root.get("global"))
        self._adopted = adopted
        self._readers: dict[str, Callable[[str, dict[str, Node]], Table | None]] = {
            "webhook_configs": self._webhook,
            "pagerduty_configs": self._pagerduty,
            "opsgenie_configs": self._opsgenie,
            "slack_configs": self._slack,
            "email_configs": self._email,
            "telegram_configs": self._telegram,
            "pushover_configs": self._pushover,
        }

    def read(self, node: Node) -> tuple[str, Table]:
        """A receiver's name and its table."""
        entries = entries_of(node)
        name = legal(text_of(entries.get("name"), "receiver"))
        table: Table = {}
        for kind, configs in entries.items():
            if kind == "name":
                continue
            reader = self._readers.get(kind)
            if reader is None:
                self._adopted.leave(
                    configs.at,
                    f"receivers.{name}.{kind}",
                    "no block of its own here: write its apprise URL under notify (see apprise's list)",
                )
                continue
            for config in items_of(configs):
                self._add(table, name, kind, reader(name, entries_of(config)), config)
        return name, table

    def _add(self, table: Table, name: str, kind: str, block: Table | None, config: Node) -> None:
        values = entries_of(config)
        for key, value in values.items():
            if key in _WORDS:
                said = "the words are made here, the same for every receiver (gaia explain shows them)"
                self._adopted.leave(value.at, f"receivers.{name}.{kind}.{key}", said)
            elif key in ("http_config", "tls_config", "max_alerts", "timeout"):
                said = "has no equivalent; a receiver's own timeout is its `timeout`"
                self._adopted.leave(value.at, f"receivers.{name}.{kind}.{key}", said)
        ends = values.get("send_resolved")
        if ends is not None and text_of(ends) == "false":
            if table and table.get("send_resolved") is not False:
                said = "holds for the whole receiver here: its other channels hear of no end either"
                self._adopted.leave(ends.at, f"receivers.{name}.{kind}.send_resolved", said)
            table["send_resolved"] = False
        for key, made in (block or {}).items():
            if key == "notify":
                table["notify"] = _joined(table.get("notify"), made)
            elif key in table:
                self._adopted.leave(
                    config.at,
                    f"receivers.{name}.{kind}",
                    f"a receiver has one {key} block: make a second receiver of this one",
                )
            else:
                table[key] = made

    def _webhook(self, name: str, config: dict[str, Node]) -> Table | None:
        return {"notify": [self._url(name, "webhook", config, "url")]}

    def _pagerduty(self, name: str, config: dict[str, Node]) -> Table | None:
        key = "routing_key" if _either(config, "routing_key") is not None else "service_key"
        node = _either(config, key)
        if node is None:
            return None
        if key == "service_key":
            said = "a service key is for Events v1: make an Events v2 integration and use its key"
            self._adopted.leave(node.at, f"receivers.{name}.pagerduty_configs.service_key", said)
        block: Table = {"routing_key": self._adopted.secret(node.at, name, "pagerduty_key")}
        if "url" in config:
            block["url"] = text_of(config["url"])
        return {"pagerduty": block}

    def _opsgenie(self, name: str, config: dict[str, Node]) -> Table | None:
        node = _either(config, "api_key") or _either(self._global, "opsgenie_api_key")
        if node is None:
            return None
        block: Table = {"api_key": self._adopted.secret(node.at, name, "opsgenie_key")}
        url = text_of(config.get("api_url") or self._global.get("opsgenie_api_url"))
        if url:
            block["url"] = f"{url.rstrip('/')}/v2/alerts"
        return {"opsgenie": block}

    def _slack(self, name: str, config: dict[str, Node]) -> Table | None:
        node = _either(config, "api_url") or _either(self._global, "slack_api_url")
        if node is None:
            return None
        if "channel" in config:
            said = "an incoming webhook decides its channel; with a bot's token: slack: {token, channel}"
            self._adopted.leave(config["channel"].at, f"receivers.{name}.slack_configs.channel", said)
        return {"slack": {"webhook": self._adopted.secret(node.at, name, "slack_webhook")}}

    def _email(self, name: str, config: dict[str, Node]) -> Table | None:
        def of(key: str, general: str) -> Node | None:
            return config.get(key) or self._global.get(general)

        host, _, port = text_of(of("smarthost", "smtp_smarthost")).rpartition(":")
        sender, to = text_of(of("from", "smtp_from")), text_of(config.get("to"))
        if not host or not sender or not to:
            return None
        block: Table = {
            "host": host,
            "port": int(port) if port.isdigit() else 587,
            "sender": sender,
            "to": [address.strip() for address in to.split(",")],
        }
        if text_of(of("require_tls", "smtp_require_tls")) == "false":
            block["starttls"] = False
        user = of("auth_username", "smtp_auth_username")
        password = _either(config, "auth_password") or _either(self._global, "smtp_auth_password")
        if user is not None and password is not None:
            block["username"] = text_of(user)
            block["password"] = self._adopted.secret(password.at, name, "smtp_password")
        return {"smtp": block}

    def _telegram(self, name: str, config: dict[str, Node]) -> Table | None:
        node, chat = _either(config, "bot_token"), text_of(config.get("chat_id"))
        if node is None or not chat:
            return None
        return {"notify": [f"tgram://{self._adopted.secret(node.at, name, 'telegram_token')}/{chat}"]}

    def _pushover(self, name: str, config: dict[str, Node]) -> Table | None:
        user, token = _either(config, "user_key"), _either(config, "token")
        if user is None or token is None:
            return None
        first = self._adopted.secret(user.at, name, "pushover_user")
        return {"notify": [f"pover://{first}@{self._adopted.secret(token.at, name, 'pushover_token')}"]}

    def _url(self, name: str, kind: str, config: dict[str, Node], key: str) -> str:
        """An address without a secret in it is copied; any other is a variable."""
        node = _either(config, key)
        if node is None:
            return ""
        text = text_of(node) if key in config else ""
        return text if _plain(text) else self._adopted.secret(node.at, name, kind, key)


def _joined(before: Value | None, more: Value) -> list[str]:
    texts = (before if isinstance(before, list) else []), (more if isinstance(more, list) else [])
    return [text for part in texts for text in part if isinstance(text, str) and text]


def legal(name: str) -> str:
    """A name as gaia.yaml takes it: letters, digits, `-` and `_`."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:63] or "receiver"


def _either(config: dict[str, Node], key: str) -> Node | None:
    """A value, or the file it is read from."""
    return config.get(key) or config.get(f"{key}_file")


def _plain(url: str) -> bool:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or parts.query or parts.username or "{" in url:
        return False
    return not any(
        len(segment) >= _TOKEN_LONG and re.search(r"\d", segment) for segment in parts.path.split("/")
    )
