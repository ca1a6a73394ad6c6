"""The second file `gaia up` lays over gaia.yaml: the same platform at its addresses on this machine."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from agent.local.child import LocalError
from agent.local.parts import LocalParts, LocalPlan
from agent.local.ports import LOOPBACK
from agent.platform import tree
from agent.platform.problem import PlatformError
from agent.platform.read import read

if TYPE_CHECKING:
    from agent.platform.scope import Scope

NOTIFY_VARIABLE: Final = "GAIA_NOTIFY_URL"
"""A receiver beside the terminal: a webhook's http(s) URL, or any apprise URL."""

Json = Mapping[str, "Json"] | list["Json"] | str | int | bool | None


def write_overlay(path: Path, parts: LocalParts, plan: LocalPlan, *, colour: bool) -> Path:
    """Write it and return its path; JSON, which is YAML. Raises LocalError when gaia.yaml cannot be read."""
    try:
        file = read(plan.config.read_bytes(), str(plan.config))
    except OSError as error:
        raise LocalError(f"cannot read {plan.config}: {error.strerror}") from error
    except PlatformError as error:
        raise LocalError(f"{plan.config} cannot be used:\n{error}") from error
    extra = os.environ.get(NOTIFY_VARIABLE, "")
    if extra and "://" not in extra:
        raise LocalError(f"{NOTIFY_VARIABLE} is no URL: write https://... for a webhook, or an apprise URL")
    receivers = _names(file, "alerts", "receivers")
    page = f"http://{LOOPBACK}:{plan.agent_port}"
    environment = plan.environment
    overlay: Json = {
        "agent": {
            "listen": f"{LOOPBACK}:{plan.agent_port}",
            "data_dir": str(path.parent),
            "otlp_listen": parts.otlp_url.removeprefix("http://"),
            "token": "${GAIA_TOKEN}",
        },
        "services": {
            name: _here(environment, _service(parts.urls(name)))
            for name in _names(file, "services")
            if name in parts.instances
        },
        "databases": {name: _here(environment, _DATABASE) for name in _names(file, "databases")},
        "brokers": {name: _here(environment, _broker(parts)) for name in _names(file, "brokers")},
        "telemetry": {"follow": {service: list(parts.logs(service)) for service in parts.instances}},
        "alerts": {"external_url": page, "receivers": _receivers(receivers, colour=colour)},
    }
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(overlay)))
    except OSError as error:
        raise LocalError(f"cannot write {path}: {error.strerror}") from error
    return path


def validate(overlay: Path, parts: LocalParts, plan: LocalPlan) -> Scope:
    """What is in force here. Raises LocalError with what `gaia validate` would say, before any start."""
    from agent.platform.load import load

    try:
        platform = load(plan.config, overlay=overlay, environ={**os.environ, **agent_environment(parts)})
        return platform.scope(plan.environment)
    except PlatformError as error:
        raise LocalError(f"{plan.config} cannot be used:\n{error}") from error


def agent_environment(parts: LocalParts) -> dict[str, str]:
    """The variables gaia.yaml takes its addresses from, as they are here."""
    return {
        "DATABASE_URL": parts.agent_database_url,
        "NATS_URL": parts.agent_nats_url,
        "GAIA_TOKEN": parts.agent_token,
    }


def write_shell_environment(path: Path, overlay: Path, parts: LocalParts, plan: LocalPlan) -> None:
    """A file to read into a shell, so that its `gaia` commands mean this platform. Raises LocalError."""
    variables = agent_environment(parts) | {
        "GAIA_CONFIG": str(plan.config),
        "GAIA_OVERLAY": str(overlay.absolute()),
        "GAIA_ENV": plan.environment,
        "GAIA_DATA": str(overlay.absolute().parent),
        "GAIA_URL": f"http://{LOOPBACK}:{plan.agent_port}",
    }
    text = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
    try:
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise LocalError(f"cannot write {path}: {error.strerror}") from error


# One server has neither standbys nor backups; what is said of Fly.io's machines is not said of it.
_DATABASE: Final[Json] = {
    "url": "${DATABASE_URL}", "app": None, "topology": "single", "standbys": None, "backups": None,
}  # fmt: skip


def _broker(parts: LocalParts) -> Json:
    return {
        "url": "${NATS_URL}", "monitor_url": parts.monitor_url, "app": None, "topology": "dedicated",
        "cluster_size": 1, "jetstream": True, "failover": None,
    }  # fmt: skip


def _service(urls: tuple[str, ...]) -> Json:
    if len(urls) == 1:
        return {"url": urls[0], "internal_url": None, "app": None}
    return {"url": None, "internal_url": None, "app": None, "probe": [], "instances": list(urls)}


def _here(environment: str, keys: Json) -> Json:
    # In the environment's own table, because that is laid over the general keys.
    return {"environments": {environment: keys}}


def _receivers(named: tuple[str, ...], *, colour: bool) -> Json:
    """Nobody in the file is called from here: what they would be told is printed."""
    silent: Json = dict.fromkeys(named)
    console: Json = {"console": {"colour": colour}}
    extra: Json = (
        {"notify": {"notify": [f"${{{NOTIFY_VARIABLE}}}"]}} if os.environ.get(NOTIFY_VARIABLE) else {}
    )
    assert isinstance(silent, Mapping)
    assert isinstance(extra, Mapping)
    return {**silent, "console": console, **extra}


def _names(root: tree.Mapping, *path: str) -> tuple[str, ...]:
    node: tree.Node | None = root
    for key in path:
        node = node.get(key) if isinstance(node, tree.Mapping) else None
    return tuple(node.entries) if isinstance(node, tree.Mapping) else ()
