"""`gaia doctor`: what is wrong with this installation, what it may not see, and how to mend it."""

from __future__ import annotations

import argparse
import asyncio
import json
import platform as machine
import re
import resource
import socket
import sys
import tarfile
from collections.abc import Iterator
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct
from msgspec.structs import asdict

from agent.cli import OK, PROBLEM, UNKNOWN, defaults

if TYPE_CHECKING:
    from agent.platform.scope import Scope
    from agent.prober import Watch
    from agent.settings import Settings
    from checks.clock import Clock

_PACKAGES: Final = ("aiohttp", "asyncpg", "msgspec", "nats-py", "psutil", "PyYAML", "aiodns", "apprise")
_LEAST_FILES: Final = 1024
_LOOK_WITHIN_S: Final = 8.0
_USERINFO: Final = re.compile(r"(?<=://)[^/@\s]+@")
_QUERY: Final = re.compile(r"(\w+://[^\s?\"']+)\?[^\s\"']+")
_ASSIGNED: Final = re.compile(r"(?im)^(\s*[\w-]*(?:password|token|secret|key)[\w-]*\s*:\s*)(?!\$\{)\S.*$")
_TOLD: Final = ("not_permitted", "unknown: ")


class Grade(StrEnum):
    """How one finding of the doctor is to be taken."""

    GOOD = "ok"
    WARN = "warn"
    BAD = "bad"


class Item(Struct, frozen=True, kw_only=True):
    """One thing looked at; the message says what to do where there is something to do."""

    about: str
    grade: Grade
    message: str


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `gaia doctor`."""
    add = parser.add_argument
    add("topic", nargs="?", choices=["postgres"], help="postgres: print the SQL of the role to log in as")
    add("--role", default="gaia_monitor", help="with postgres: the role's name")
    add("--server", type=int, default=18, metavar="MAJOR", help="with postgres: the server's major version")
    add("--config", type=Path, default=defaults.config(), help="the platform file")
    add(
        "--overlay",
        type=Path,
        default=defaults.overlay(),
        help="a second file, laid key by key over the first",
    )
    add("--env", action="append", metavar="ENV", help="the environment; may be repeated")
    add("--bundle", type=Path, metavar="FILE", help="also write a redacted .tar.gz to send to someone")
    add("--json", action="store_true", help="one JSON document instead of lines")


def run(args: argparse.Namespace) -> int:
    """0 when nothing is wrong, 1 when something is, 3 when the file cannot be used."""
    if args.topic == "postgres":
        from checks.postgres.role import role_sql

        try:
            print(role_sql(args.role, major=args.server), end="")
        except ValueError as error:
            print(f"gaia doctor: {error}", file=sys.stderr)
            return UNKNOWN
        return OK
    from agent.settings import Settings

    settings = Settings(
        config=args.config,
        overlay=args.overlay,
        environments=tuple(args.env or filter(None, [defaults.environment()])),
    )
    items = [*_installation(), *_platform(settings)]
    _show(items, as_json=args.json)
    if args.bundle is not None:
        _bundle(args.bundle, items, args.config)
    if any(item.about == "file" and item.grade is Grade.BAD for item in items):
        return UNKNOWN
    return PROBLEM if any(item.grade is not Grade.GOOD for item in items) else OK


def redacted(text: str) -> str:
    """A file's text without what may be secret: userinfo and query of URLs, values of secret-looking keys."""
    return _ASSIGNED.sub(r"\1***", _QUERY.sub(r"\1?***", _USERINFO.sub("***@", text)))


def _installation() -> Iterator[Item]:
    yield Item(
        about="python", grade=Grade.GOOD, message=f"{machine.python_version()} on {machine.platform()}"
    )
    missing = [name for name in _PACKAGES if _version(name) is None]
    if missing:
        words = f"missing: {', '.join(missing)}; install gaia-agent again"
        yield Item(about="packages", grade=Grade.BAD, message=words)
    else:
        words = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
        yield Item(about="packages", grade=Grade.GOOD, message=words)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _LEAST_FILES:
        words = f"only {soft} files may be open (hard limit {hard}): raise it with ulimit -n or LimitNOFILE"
        yield Item(about="files", grade=Grade.WARN, message=words)
    else:
        yield Item(about="files", grade=Grade.GOOD, message=f"{soft} files may be open")


def _platform(settings: Settings) -> Iterator[Item]:
    from agent.platform.problem import PlatformError
    from agent.settings import StartError

    try:
        loaded, scopes = settings.scopes(calls=False)
    except PlatformError as error:
        for problem in error.problems:
            yield Item(about="file", grade=Grade.BAD, message=str(problem))
        return
    except StartError as error:
        yield Item(about="file", grade=Grade.BAD, message=str(error))
        return
    yield Item(about="file", grade=Grade.GOOD, message=f"{settings.config} describes {loaded.name}")
    for warning in loaded.warnings:
        yield Item(about="file", grade=Grade.WARN, message=str(warning))
    for scope in scopes:
        yield from _agent(settings, scope)
        yield from asyncio.run(_targets(scope))


def _agent(settings: Settings, scope: Scope) -> Iterator[Item]:
    from agent.settings import StartError

    try:
        data = settings.data_dir(scope)
        trial = data / ".doctor"
        trial.write_bytes(b"")
        trial.unlink()
    except (StartError, OSError) as error:
        words = f"state cannot be written: {error}"
        yield Item(about="data", grade=Grade.BAD, message=words)
    else:
        yield Item(about="data", grade=Grade.GOOD, message=f"{data} can be written")
    try:
        host, port = settings.address(scope)
    except StartError as error:
        yield Item(about="listen", grade=Grade.BAD, message=str(error))
        return
    with socket.socket() as sock:
        sock.settimeout(1)
        taken = sock.connect_ex((host or "127.0.0.1", port)) == 0
    words = "an agent or something else listens" if taken else "free: no agent runs here"
    yield Item(about="listen", grade=Grade.GOOD, message=f"{host}:{port} {words}")


async def _targets(scope: Scope) -> list[Item]:
    """Every target looked at once: what fails, and what answers but may not be seen."""
    from agent.watches import watches
    from checks.catalog import ProbeKit
    from checks.clock import SystemClock
    from checks.resolver import CachingResolver

    kit = ProbeKit(clock=SystemClock(), resolver=CachingResolver())
    found = await asyncio.gather(*(_look(watch, kit.clock) for watch in watches(scope, kit)))
    return [item for items in found for item in items]


async def _look(watch: Watch, clock: Clock) -> list[Item]:
    from checks.finding import State
    from checks.observation import Occasion, observe

    try:
        seen = await observe(
            watch.check, watch.target, deadline_s=_LOOK_WITHIN_S, clock=clock, occasion=Occasion.MANUAL
        )
    finally:
        await watch.check.close()
    about = f"{watch.target.key.env}/{watch.target.key.service}/{watch.target.key.check}"
    finding = seen.finding
    fine = finding.state in (State.UP, State.ASLEEP)
    items = [
        Item(
            about=about,
            grade=Grade.GOOD if fine else Grade.BAD if finding.state is State.DOWN else Grade.WARN,
            message=f"{finding.state} ({finding.reason}): {finding.message}",
        )
    ]
    items += [
        Item(about=about, grade=Grade.WARN, message=f"{one.name}: {one.value}")
        for one in finding.evidence
        if one.name.startswith(_TOLD)
    ]
    return items


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _show(items: list[Item], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"items": [asdict(item) for item in items]}))
        return
    for item in items:
        print(f"{item.grade:4}  {item.about}: {item.message}")


def _bundle(path: Path, items: list[Item], config: Path) -> None:
    files = {"doctor.json": json.dumps([asdict(item) for item in items], indent=1)}
    if config.exists():
        files[config.name] = redacted(config.read_text("utf-8", "replace"))
    with tarfile.open(path, "w:gz") as bundle:
        for name, text in files.items():
            data = text.encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            bundle.addfile(entry, BytesIO(data))
    print(f"wrote {path}: read it before you send it on", file=sys.stderr)
