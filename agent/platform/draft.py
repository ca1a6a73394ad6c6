"""A first gaia.yaml from what was found: text with comments, for a person to go on with."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from agent.platform.answering import Answering
from agent.platform.fly_files import FlyApp
from agent.platform.machine_sizes import refusal
from agent.platform.model import MachineSize
from checks.units import Size

_ORDER: Final = ("development", "staging", "production")
_POLICIES: Final = {"development": "none", "staging": "basic", "production": "comprehensive"}
_PLAIN: Final = re.compile(r"(?:https?://[A-Za-z]|[A-Za-z_/])[A-Za-z0-9_./{}-]*(?::\d+)?")
_LEAST_MB: Final = {"shared": 256, "performance": 2048}


def from_fly(apps: tuple[FlyApp, ...], *, platform: str) -> str:
    """The file for the apps of a repository's fly.toml files."""
    usual = {name: _usual(app for app in apps if app.environment == name) for name in _ORDER}
    names = sorted({app.environment for app in apps}, key=_ORDER.index)
    lines = [*_head(platform, f"{len(apps)} fly.toml file{'s' if len(apps) != 1 else ''}"), "environments:"]
    for name in names:
        lines += _environment(name, [app for app in apps if app.environment == name], usual[name])
    for section, what in (("services", "service"), ("databases", "database"), ("brokers", "broker")):
        found = sorted({app.service for app in apps if app.what == what})
        if found:
            lines.append(f"{section}:")
        for service in found:
            lines += _component(service, what, [app for app in apps if app.service == service], usual)
    return "\n".join([*lines, *_receivers()]) + "\n"


def from_answers(answers: Iterable[Answering], *, platform: str) -> str:
    """The file for services that were asked from outside."""
    found = list(answers)
    lines = [
        *_head(platform, ", ".join(answer.url for answer in found)),
        "environments:",
        "  production: {alias: prod, check_interval: 10s}",
        "services:",
    ]
    names: Counter[str] = Counter()
    for answer in found:
        names[answer.name] += 1
        name = answer.name if names[answer.name] == 1 else f"{answer.name}-{names[answer.name]}"
        lines += [f"  {_text(name)}:", f"    url: {_text(answer.url)}"]
        if answer.health is None:
            lines.append(f"    health: /health   # it {answer.why}; say where it tells how it is")
        else:
            lines.append(f"    health: {_text(answer.health)}")
        if answer.metrics:
            lines.append("    metrics: /metrics")
    lines += [
        "# databases:",
        '#   main: {url: "${DATABASE_URL}"}',
        "# brokers:",
        '#   bus: {url: "${NATS_URL}"}',
    ]
    return "\n".join([*lines, *_receivers()]) + "\n"


def _head(platform: str, source: str) -> list[str]:
    return [
        f"# Written by gaia init from {source}. Every key: docs/gaia-yaml.md; check it: gaia validate",
        f"platform: {_text(platform)}",
        "",
    ]


def _receivers() -> list[str]:
    return [
        "# alerts:",
        "#   receivers:",
        '#     on_call: {notify: ["${ONCALL_URL}"]}   # without a receiver nobody is called',
    ]


def _usual(apps: Iterable[FlyApp]) -> str:
    """The machines table most of the apps have."""
    found = Counter(machines for app in apps if (machines := _machines(app))).most_common(1)
    return found[0][0] if found else ""


def _environment(name: str, apps: list[FlyApp], usual: str) -> Iterator[str]:
    yield f"  {name}:"
    yield f"    alias: {apps[0].alias}"
    interval = next((app.interval for app in apps if app.interval), None)
    if interval is not None and re.fullmatch(r"\d+(ms|s|m|h)", interval):
        yield f"    check_interval: {interval}"
    yield f"    alerts: {_POLICIES[name]}"
    if usual:
        yield f"    machines: {usual}   # max: fly.toml does not say"


def _machines(app: FlyApp) -> str:
    """Its machines table, or "" when its file says nothing of machines."""
    if app.auto_stop is None and app.minimum is None:
        return ""
    least = app.minimum or 0
    return f"{{auto_stop: {app.auto_stop or 'off'}, min: {least}, max: {max(least, 1)}}}"


def _component(name: str, what: str, apps: list[FlyApp], usual: dict[str, str]) -> Iterator[str]:
    yield f"  {_text(name)}:"
    pattern = _pattern(apps)
    if what == "database":
        yield '    url: "${DATABASE_URL}"'
        yield f"    app: {_text(pattern)}"
        return
    if what == "broker":
        yield '    url: "${NATS_URL}"'
        yield f"    monitor_url: {_text(f'http://{pattern}.internal:8222')}"
        yield f"    app: {_text(pattern)}"
        return
    yield f"    url: {_text(f'https://{pattern}.fly.dev')}"
    yield f"    internal_url: {_text(f'http://{pattern}.flycast')}"
    health = next((app.health for app in apps if app.health), None)
    metrics = next((app.metrics for app in apps if app.metrics), None)
    yield f"    health: {_text(health)}" if health else "    health: /health   # fly.toml has no check"
    if metrics:
        yield f"    metrics: {_text(metrics)}"
    sized = [app for app in apps if app.memory is not None]
    if sized:
        yield "    resources:"
        for app in sized:
            yield from _resources(app)
    unusual = [app for app in apps if _machines(app) and _machines(app) != usual.get(app.environment)]
    if unusual:
        yield "    environments:"
        for app in unusual:
            yield f"      {app.environment}: {{machines: {_machines(app)}}}"


def _resources(app: FlyApp) -> Iterator[str]:
    assert app.memory is not None
    kind: Final = "performance" if app.cpu_kind == "performance" else "shared"
    size = MachineSize(memory=Size.parse(app.memory), cpus=app.cpus, cpu_kind=kind)
    written = f"memory: {app.memory}, cpus: {app.cpus}, cpu_kind: {kind}"
    why = refusal(size)
    if not why:
        yield f"      {app.environment}: {{{written}}}"
        return
    least = Size(_LEAST_MB[kind] * app.cpus * 2**20)
    yield f"      # {why}"
    yield f"      {app.environment}: {{{written}, deployed_as: {{memory: {least}}}}}"


def _pattern(apps: list[FlyApp]) -> str:
    """The apps' common name with {env}, or the only one's."""
    patterns = {
        app.app.removesuffix(app.alias) + "{env}" for app in apps if app.app.endswith(f"-{app.alias}")
    }
    return patterns.pop() if len(patterns) == 1 else apps[0].app


def _text(value: str) -> str:
    return value if _PLAIN.fullmatch(value) else json.dumps(value)
