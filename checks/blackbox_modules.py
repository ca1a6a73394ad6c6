"""Modules of a blackbox.yml, read as the options of our own checks. Pure.

https://github.com/prometheus/blackbox_exporter/blob/master/CONFIGURATION.md. A key that is not understood,
or cannot mean the same here, makes its module unusable and is reported: no probe silently tests less.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, cast
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from checks.catalog import kind
from checks.health_document.json import Json
from checks.secret import Secret
from checks.units import Duration, Size

Table = dict[str, Json]

_PROBERS: Final = ("http", "tcp", "dns")
_BODY_LIMIT: Final = 10 * 1024 * 1024
_REDIRECTS: Final = 10
_TLS_KEYS: Final = {
    "ca_file": "ca_file",
    "cert_file": "client_certificate",
    "key_file": "client_key",
    "server_name": "server_name",
}
_TLS_VERSIONS: Final = {"TLS10": "1.0", "TLS11": "1.1", "TLS12": "1.2", "TLS13": "1.3"}
# They change nothing that is measured here: HTTP/1.1 is always spoken, and codings are always decoded.
_HARMLESS: Final = ("enable_http2", "enable_http3", "compression", "skip_resolve_phase_with_proxy")
_HEADER_LISTS: Final = ("fail_if_header_matches", "fail_if_header_not_matches")
_RULES: Final = ("fail_if_not_matches_regexp", "fail_if_none_matches_regexp")


class ModuleError(ValueError):
    """A key that cannot be honoured; the text says which and why."""


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
            found = _module(str(name), _table(module, f"modules.{name}"))
            options_for(found, "host.example:1", timeout_s=1.0)
            usable[str(name)] = found
        except ModuleError as error:
            problems[str(name)] = str(error)
        except ValueError as error:  # msgspec's ValidationError among them
            problems[str(name)] = f"modules.{name}: {error}"
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
            if hostname is not None:
                headers = cast("dict[str, Json]", table.get("headers", {}))
                tls = cast("dict[str, Json]", table.get("tls", {}))
                table["headers"] = {**headers, "Host": hostname}
                table["tls"] = {"server_name": hostname, **tls}
        case "tcp":
            table["address"] = target
        case _:
            table |= _server(target)
    options: msgspec.Struct = msgspec.convert(table, kind(module.kind).options, dec_hook=_decoded)
    return options


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
    if prober not in _PROBERS:
        raise ModuleError(f"modules.{name}.prober: {prober} is not supported: use {', '.join(_PROBERS)}")
    timeout = rest.pop("timeout", None)
    settings = _table(rest.pop(prober, {}) or {}, f"modules.{name}.{prober}")
    for other in ("http", "tcp", "dns", "icmp", "grpc", "unix"):
        rest.pop(other, None)  # blackbox_exporter ignores the settings of other probers too
    _nothing_left(rest, f"modules.{name}")
    at = f"modules.{name}.{prober}"
    table = {"http": _http, "tcp": _tcp, "dns": _dns}[prober](settings, at)
    _nothing_left(settings, at)
    return Module(
        name=name,
        kind=prober,
        timeout_s=_duration(timeout, f"modules.{name}.timeout") if timeout else None,
        table=table,
    )


def _http(left: Table, at: str) -> Table:
    for key in _HARMLESS:
        left.pop(key, None)
    follow = (
        left.pop("follow_redirects", True) is not False and left.pop("no_follow_redirects", False) is not True
    )
    left.pop("no_follow_redirects", None)
    limit = left.pop("body_size_limit", None)
    table: Table = {
        "method": left.pop("method", "GET"),
        "headers": left.pop("headers", None) or {},
        "redirects": _REDIRECTS if follow else 0,
        "require_tls": bool(left.pop("fail_if_not_ssl", False)),
        "forbid_tls": bool(left.pop("fail_if_ssl", False)),
        "body_limit": _size(limit, f"{at}.body_size_limit") if limit else _BODY_LIMIT,
        "health": "off",
        "slower_than": 86400.0,
        "ip": _family(left),
        "expect": _expect(left, at),
    }
    if "body" in left:
        table["body"] = left.pop("body")
    tls = _tls(left.pop("tls_config", None) or {}, f"{at}.tls_config")
    if tls:
        table["tls"] = tls
    auth = _auth(left, at)
    if auth:
        table["auth"] = auth
    return table


def _expect(left: Table, at: str) -> Table:
    versions = cast("list[str]", left.pop("valid_http_versions", None) or [])
    header: Table = {}
    header_not: Table = {}
    for key in _HEADER_LISTS:
        for rule in cast("list[Table]", left.pop(key, None) or []):
            name, pattern = str(rule.get("header")), rule.get("regexp")
            negative = key == "fail_if_header_matches"
            if rule.get("allow_missing") and not negative:
                raise ModuleError(
                    f"{at}.{key}.allow_missing: not supported: such a header cannot be required"
                )
            if negative:
                header_not[name] = pattern
            if not rule.get("allow_missing"):
                header[name] = "" if negative else pattern
    return {
        "status": cast("list[Json]", left.pop("valid_status_codes", None)) or ["2xx"],
        "version": [version.removeprefix("HTTP/") for version in versions],
        "header": header,
        "header_not": header_not,
        "body": left.pop("fail_if_body_not_matches_regexp", None) or [],
        "body_not": left.pop("fail_if_body_matches_regexp", None) or [],
    }


def _auth(left: Table, at: str) -> Table | None:
    basic = left.pop("basic_auth", None)
    authorization = left.pop("authorization", None)
    bearer, bearer_file = left.pop("bearer_token", None), left.pop("bearer_token_file", None)
    oauth2 = left.pop("oauth2", None)
    if isinstance(basic, dict):
        _only(basic, ("username", "password"), f"{at}.basic_auth")
        return {"basic": {"username": basic.get("username", ""), "password": basic.get("password", "")}}
    if isinstance(authorization, dict):
        _only(authorization, ("type", "credentials", "credentials_file"), f"{at}.authorization")
        if authorization.get("type", "Bearer") != "Bearer":
            raise ModuleError(f"{at}.authorization.type: only Bearer is supported: use headers")
        bearer = authorization.get("credentials", bearer)
        bearer_file = authorization.get("credentials_file", bearer_file)
    if isinstance(oauth2, dict):
        _only(oauth2, ("client_id", "client_secret", "token_url", "scopes"), f"{at}.oauth2")
        return {"oauth2": oauth2}
    if bearer:
        return {"bearer": bearer}
    return {"bearer_file": bearer_file} if bearer_file else None


def _tcp(left: Table, at: str) -> Table:
    steps: list[Json] = []
    for place, step in enumerate(cast("list[Json]", left.pop("query_response", None) or [])):
        entry = _table(step, f"{at}.query_response[{place}]")
        _only(entry, ("expect", "send", "starttls"), f"{at}.query_response[{place}]")
        steps.append(entry)
    tls = _tls(left.pop("tls_config", None) or {}, f"{at}.tls_config")
    table: Table = {"dialogue": steps, "ip": _family(left), "slower_than": 86400.0, "tls": tls}
    table["tls_first"] = bool(left.pop("tls", False))
    return table


def _dns(left: Table, at: str) -> Table:
    table: Table = {
        "name": left.pop("query_name", None) or "",
        "type": left.pop("query_type", None) or "ANY",
        "transport": left.pop("transport_protocol", None) or "udp",
        "recursion": left.pop("recursion_desired", True) is not False,
        "rcode": left.pop("valid_rcodes", None) or ["NOERROR"],
        "ip": _family(left),
        "min_answers": 0,
        "slower_than": 86400.0,
    }
    if left.pop("query_class", "IN") != "IN":
        raise ModuleError(f"{at}.query_class: only IN is supported")
    rules = left.pop("validate_answer_rrs", None)
    if isinstance(rules, dict):
        _only(rules, _RULES, f"{at}.validate_answer_rrs")
        patterns = [pattern for key in _RULES for pattern in cast("list[str]", rules.get(key) or [])]
        table["answers"] = cast("list[Json]", list(patterns))
        table["only"] = bool(rules.get("fail_if_not_matches_regexp"))
    return table


def _tls(value: Json, at: str) -> Table:
    left = dict(_table(value, at))
    table: Table = {ours: left.pop(theirs) for theirs, ours in _TLS_KEYS.items() if theirs in left}
    if left.pop("insecure_skip_verify", False):
        table["verify"] = False
    for key in ("min_version", "max_version"):
        if key in left:
            table[key] = _TLS_VERSIONS.get(str(left.pop(key)), "?")
    _nothing_left(left, at)
    return table


def _family(left: Table) -> str:
    six = left.pop("preferred_ip_protocol", "ip6") != "ip4"
    fallback = left.pop("ip_protocol_fallback", True) is not False
    return f"{'prefer' if fallback else 'only'}_{6 if six else 4}"


def _table(value: Json, at: str) -> Table:
    if not isinstance(value, dict):
        raise ModuleError(f"{at}: a table is expected")
    return value


def _only(table: Table, keys: tuple[str, ...], at: str) -> None:
    _nothing_left({key: value for key, value in table.items() if key not in keys}, at)


def _nothing_left(table: Table, at: str) -> None:
    for key in table:
        raise ModuleError(f"{at}.{key}: not supported")


def _duration(value: Json, at: str) -> float:
    try:
        return float(value) if isinstance(value, (int, float)) else Duration.parse(str(value))
    except ValueError as error:
        raise ModuleError(f"{at}: {error}") from error


def _size(value: Json, at: str) -> int:
    match = re.fullmatch(r"(\d+)\s*([kKMG]?)i?[bB]?", str(value))
    if match is None:
        raise ModuleError(f'{at}: "{value}" is not a size')
    factor: int = 1024 ** " KMG".index(match[2].upper() or " ")
    return int(match[1]) * factor
