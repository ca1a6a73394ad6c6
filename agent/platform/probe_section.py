"""What `/probe` may reach and how it asks: modules of the file and of a blackbox.yml beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Mapping as MappingType
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from agent.platform.model import Broker, Database, Service
from agent.platform.place import Places
from agent.platform.problem import PlatformError, Problems, Severity
from agent.platform.read import MAX_BYTES, read
from agent.platform.scalars import resolve
from agent.platform.tree import Mapping, Node, Scalar, Sequence

_PORTS: Final = {"http": 80, "https": 443, "postgres": 5432, "postgresql": 5432, "nats": 4222, "tls": 4222}


def own_addresses(components: Iterable[Service | Database | Broker]) -> tuple[str, ...]:
    """`host:port` of everything the file names: what `/probe` may reach unless it is told otherwise."""
    found: dict[str, None] = {}
    for component in components:
        for url in _urls(component):
            place = _place(url)
            if place:
                found[place] = None
    return tuple(found)


def modules(root: Mapping, written: MappingType[str, object], problems: Problems) -> dict[str, object]:
    """The modules of `probe_modules_file` with those `written` in the file over them; mistakes noted."""
    places = Places(root)
    named = root.get("probe_modules_file")
    base: dict[str, object] = {}
    if isinstance(named, Scalar) and named.text:
        base = _from_file(named, places, problems)
    if written or base:
        _check(base, places, problems, key=("probe_modules_file",), severity=Severity.WARNING)
        _check(written, places, problems, key=("probe_modules",), severity=Severity.ERROR)
    return {**base, **written}


def _urls(component: Service | Database | Broker) -> Iterator[str]:
    if isinstance(component, Service):
        yield from (url for url in (component.url, component.internal_url, *component.instances) if url)
    else:
        yield from component.url.reveal().split(",")


def _place(url: str) -> str:
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return ""
    if not host or port is None:
        return ""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _from_file(named: Scalar, places: Places, problems: Problems) -> dict[str, object]:
    path = Path(named.at.file).parent / named.text
    try:
        with path.open("rb") as file:
            tree = read(file.read(MAX_BYTES + 1), str(path))
    except OSError as error:
        places.note(problems, ("probe_modules_file",), f"{path} cannot be read: {error.strerror or error}")
        return {}
    except PlatformError as error:
        for problem in error.problems:
            places.note(problems, ("probe_modules_file",), f"{path}:{problem.line}: {problem.message}")
        return {}
    table = tree.get("modules")
    if not isinstance(table, Mapping):
        places.note(problems, ("probe_modules_file",), f"{path} has no modules")
        return {}
    return {name: _plain(entry.value) for name, entry in table.entries.items()}


def _check(
    tables: MappingType[str, object],
    places: Places,
    problems: Problems,
    *,
    key: tuple[str, ...],
    severity: Severity,
) -> None:
    """Ask the reader of blackbox_exporter's format; it needs the quantities as that spells them."""
    if not tables:
        return
    from checks.blackbox_modules import parse_modules

    for name, sentence in parse_modules({"modules": dict(tables)}).problems.items():
        where = (*key, name) if key == ("probe_modules",) else key
        places.note(problems, where, sentence, severity=severity)


def _plain(node: Node) -> Any:
    """As written, without variables: `$` means something else in the patterns of these files."""
    if isinstance(node, Scalar):
        return resolve(node)
    if isinstance(node, Sequence):
        return [_plain(item) for item in node.items]
    return {name: _plain(entry.value) for name, entry in node.entries.items()}
