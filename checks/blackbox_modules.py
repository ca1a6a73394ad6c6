"""Modules of a blackbox.yml, read as the options of our own checks. Pure.

https://github.com/prometheus/blackbox_exporter/blob/master/CONFIGURATION.md. A key that is not understood,
or cannot mean the same here, makes its module unusable and is reported: no probe silently tests less.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import Struct

from checks.blackbox_tables import TABLES, ModuleError, Table, as_table, nothing_left, seconds
from checks.catalog import kind
from checks.health_document.json import Json
from checks.secret import Secret
from checks.units import Duration, Size

# What to do instead, for those who come with such a module.
_ABSENT: Final = {
    "icmp": "a ping needs rights the agent does not have: look at a TCP port of the machine (prober: tcp)",
    "grpc": "look at the service's HTTP health (prober: http) or its port (prober: tcp)",
    "unix": "look at it from outside through its TCP port (prober: tcp)",
}


class Module(Struct, frozen=True, kw_only=True):
    """One usable module: our kind of check and its options, without the target."""

    name: str
    kind: str
    timeout_s: float | None
    table: Table


class Modules(Struct, frozen=True, kw_only=True):
    """What a file holds: the usable modules, and one sentence for each of the others."""

    usable: Mapping[str, Module]
    problems: Mapping[str, str]


def parse_modules(tree: object) -> Modules:
    """`tree` is the parsed file, or only what stands under its `modules:`. Never raises."""
    table = tree if isinstance(tree, dict) else {}
    modules = table.get("modules", table)
    usable: dict[str, Module] = {}
    problems: dict[str, str] = {}
    for name, module in modules.items() if isinstance(modules, dict) else ():
        try:
            found = _module(str(name), as_table(module, f"modules.{name}"))
            options_for(found, "host.example:1", timeout_s=1.0)
            usable[str(name)] = found
        except ModuleError as error:
            problems[str(name)] = " ".join(str(error).split())
        except ValueError as error:  # msgspec's ValidationError among them
            problems[str(name)] = " ".join(f"modules.{name}: {error}".split())
    return Modules(usable=usable, problems=problems)


def options_for(
    module: Module, target: str, *, timeout_s: float, hostname: str | None = None
) -> msgspec.Struct:
    """The options of one probe of `target`. Raises ValueError when it is no target for this module."""
    table = dict(module.table)
    table["timeout"] = timeout_s
    match module.kind:
        case "http":
            table["url"] = target if "://" in target else f"http://{target}"
            _log_in(table)
            if hostname:
                _name_host(table, hostname)
        case "tcp":
            table["address"] = target
        case _:
            table |= _server(target)
    options: msgspec.Struct = msgspec.convert(table, kind(module.kind).options, dec_hook=_decoded)
    return options


def _log_in(table: Table) -> None:
    """User name and password in the URL are those of basic authentication, as in a browser."""
    split = urlsplit(str(table["url"]))
    if split.username is None:
        return
    table["url"] = split._replace(netloc=split.netloc.rpartition("@")[2]).geturl()
    if "auth" not in table:
        username, password = unquote(split.username), unquote(split.password or "")
        table["auth"] = {"basic": {"username": username, "password": password}}


def _name_host(table: Table, hostname: str) -> None:
    """Ask for `hostname` at the target's address: in the Host header and, with TLS, by its name."""
    headers = cast("dict[str, Json]", table.get("headers", {}))
    own = next((value for name, value in headers.items() if name.lower() == "host"), hostname)
    if own != hostname:
        raise ValueError(f'hostname "{hostname[:100]}" contradicts the Host header of the module')
    others = {name: value for name, value in headers.items() if name.lower() != "host"}
    table["headers"] = {**others, "Host": hostname}
    table["tls"] = {"server_name": hostname, **cast("dict[str, Json]", table.get("tls", {}))}


def place_of(module: Module, target: str) -> tuple[str, int]:
    """Host and port that a probe of `target` would reach. Raises ValueError."""
    split = urlsplit(target if "://" in target else f"//{target}")
    if not split.hostname:
        raise ValueError(f'"{target[:100]}" is no target: write host:port or a URL')
    default = {"http": 443 if split.scheme == "https" else 80, "dns": 53}.get(module.kind)
    port = split.port or default
    if port is None:
        raise ValueError(f'"{target[:100]}" has no port')
    return split.hostname, port


def _decoded(hint: type, value: Any) -> Any:
    return hint(value) if hint in (Duration, Size, Secret) else value


def _server(target: str) -> Table:
    split = urlsplit(f"//{target}")
    return {"server": split.hostname or target, "port": split.port or 53}


def _module(name: str, module: Table) -> Module:
    rest = dict(module)
    prober = rest.pop("prober", None)
    if not isinstance(prober, str) or prober not in TABLES:
        instead = _ABSENT.get(str(prober), f"use {', '.join(TABLES)}")
        raise ModuleError(f"modules.{name}.prober: {prober} is not supported: {instead}")
    timeout = rest.pop("timeout", None)
    settings = as_table(rest.pop(prober, {}) or {}, f"modules.{name}.{prober}")
    for other in ("http", "tcp", "dns", "icmp", "grpc", "unix"):
        rest.pop(other, None)  # blackbox_exporter ignores the settings of other probers too
    nothing_left(rest, f"modules.{name}")
    at = f"modules.{name}.{prober}"
    table = TABLES[prober](settings, at)
    nothing_left(settings, at)
    return Module(
        name=name,
        kind=prober,
        timeout_s=seconds(timeout, f"modules.{name}.timeout") if timeout else None,
        table=table,
    )
