"""fly.toml files as found in a repository: what Fly.io was told of each app."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from checks.units import Size

_ENVIRONMENTS: Final = {
    "dev": "development", "development": "development", "stg": "staging", "stage": "staging",
    "staging": "staging", "prod": "production", "production": "production",
}  # fmt: skip
_SKIPPED: Final = {"node_modules", ".git", ".venv", "venv", "__pycache__", ".gaia"}
_MAX_FILES: Final = 500
_STOPS: Final = {True: "stop", False: "off", "stop": "stop", "off": "off", "suspend": "suspend"}
_BROKER: Final = re.compile(r"(^|/)nats(:|-|$)")
_DATABASE: Final = re.compile(r"postgres")
# Presets of Fly.io: name, kind of CPU, CPUs, memory in MB.
_PRESET: Final = re.compile(r"(shared|performance)(?:-cpu)?-(\d+)x")


class FlyFileError(Exception):
    """A fly.toml that cannot be read; the message names file and reason."""


class FlyApp(msgspec.Struct, frozen=True, kw_only=True):
    """One app: whose service it is in which environment, and what its file says of it."""

    file: str
    app: str
    service: str
    environment: str
    alias: str
    what: str
    health: str | None
    metrics: str | None
    interval: str | None
    auto_stop: str | None
    minimum: int | None
    memory: str | None
    cpus: int
    cpu_kind: str


def find_apps(folder: Path) -> tuple[FlyApp, ...]:
    """Every app of the `fly*.toml` files below `folder`. Raises FlyFileError."""
    apps = [read_app(path, folder) for path in _files(folder)]
    return tuple(sorted(apps, key=lambda app: (app.service, app.environment, app.file)))


def read_app(path: Path, folder: Path) -> FlyApp:
    """One file. Raises FlyFileError."""
    name = str(path.relative_to(folder))
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise FlyFileError(f"{name} cannot be read: {error}") from error
    app = table.get("app")
    if not isinstance(app, str) or not app:
        raise FlyFileError(f'{name} has no app = "..."')
    service, environment, alias = _identity(app, path)
    web = _table(table, "http_service")
    checks = _list(web, "checks") or [
        check for entry in _list(table, "services") for check in _list(entry, "http_checks")
    ]
    check = checks[0] if checks else {}
    size = _size(table)
    stop = web.get("auto_stop_machines")
    image = str(_table(table, "build").get("image", ""))
    what = "broker" if _BROKER.search(image) else "database" if _DATABASE.search(image) else "service"
    return FlyApp(
        file=name,
        app=app,
        service=service,
        environment=environment,
        alias=alias,
        what=what,
        health=_text(check.get("path")),
        metrics=_text(_table(table, "metrics").get("path")),
        interval=_text(check.get("interval")),
        auto_stop=_STOPS.get(stop) if isinstance(stop, bool | str) else None,
        minimum=_number(web.get("min_machines_running")),
        memory=size[0],
        cpus=size[1],
        cpu_kind=size[2],
    )


def _files(folder: Path) -> Iterator[Path]:
    found = 0
    for path in sorted(folder.rglob("fly*.toml")):
        if _SKIPPED.isdisjoint(path.relative_to(folder).parts) and path.is_file():
            found += 1
            if found > _MAX_FILES:
                raise FlyFileError(f"more than {_MAX_FILES} fly*.toml files below {folder}: choose a folder")
            yield path


def _identity(app: str, path: Path) -> tuple[str, str, str]:
    """Service, environment and alias from `gaia-auth-prod`, else from `fly.staging.toml`."""
    words = app.split("-")
    if len(words) > 1 and words[-1] in _ENVIRONMENTS:
        service = "-".join(words[1:-1]) if len(words) > 2 else words[0]
        return service, _ENVIRONMENTS[words[-1]], words[-1]
    for word in re.split(r"[.\-_]", path.stem)[::-1]:
        if word in _ENVIRONMENTS:
            return app, _ENVIRONMENTS[word], word
    return app, "production", "prod"


def _size(table: dict[str, Any]) -> tuple[str | None, int, str]:
    machines = _list(table, "vm")
    machine = machines[0] if machines else {}
    kind, cpus, memory = "shared", 1, None
    preset = _PRESET.fullmatch(str(machine.get("size", "")))
    if preset:
        kind, cpus = preset[1], int(preset[2])
        memory = f"{(256 if kind == 'shared' else 2048) * cpus}MB"
    kind = _text(machine.get("cpu_kind")) or kind
    cpus = _number(machine.get("cpus")) or cpus
    written = machine.get("memory", machine.get("memory_mb"))
    if isinstance(written, int):
        memory = f"{written}MB"
    elif isinstance(written, str):
        memory = written.upper() if written[-1:].isalpha() else f"{written}MB"
    try:
        return (str(Size.parse(memory)) if memory else None), cpus, kind
    except ValueError:
        return None, cpus, kind


def _table(table: dict[str, Any], key: str) -> dict[str, Any]:
    value = table.get(key)
    return value if isinstance(value, dict) else {}


def _list(table: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = table.get(key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
