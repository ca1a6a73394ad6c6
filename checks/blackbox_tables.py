"""What the modules of a blackbox.yml say of HTTP, TCP and DNS, as the options of our own checks. Pure.

Each reader takes what it understands out of the table it is given; what is left was not understood.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from checks.go_pattern import python_pattern
from checks.health_document.json import Json
from checks.units import Duration

Table = dict[str, Json]

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
# What blackbox_exporter does, not what its names say: "fail_if_all_match" fails when not all match.
_RULES: Final = {
    "fail_if_matches_regexp": "none",
    "fail_if_not_matches_regexp": "each",
    "fail_if_all_match_regexp": "all",
    "fail_if_none_matches_regexp": "some",
}
_SECTIONS: Final = {
    "validate_answer_rrs": "answer_records",
    "validate_authority_rrs": "authority_records",
    "validate_additional_rrs": "additional_records",
}
# Go's Expand: $1, ${1}, $name, ${name} and $$ for a dollar.
_EXPANDED: Final = re.compile(r"\$(?:(\$)|(\w+)|\{(\w+)\})")


class ModuleError(ValueError):
    """A key that cannot be honoured; the text says which and why."""


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
    versions = _list(left.pop("valid_http_versions", None), f"{at}.valid_http_versions")
    header: Table = {}
    header_not: Table = {}
    header_if_sent: Table = {}
    for key in _HEADER_LISTS:
        for item in _list(left.pop(key, None), f"{at}.{key}"):
            rule = as_table(item, f"{at}.{key}")
            _only(rule, ("header", "regexp", "allow_missing"), f"{at}.{key}")
            name, pattern = str(rule.get("header")), rule.get("regexp")
            negative = key == "fail_if_header_matches"
            known = name in header_not if negative else name in header_if_sent or bool(header.get(name))
            if known:
                raise ModuleError(f"{at}.{key}: two rules for the header {name} are not supported")
            if negative:
                header_not[name] = _pattern(pattern, f"{at}.{key}")
                if not rule.get("allow_missing"):
                    header[name] = ""
            else:
                table = header_if_sent if rule.get("allow_missing") else header
                table[name] = _pattern(pattern, f"{at}.{key}")
    forbidden, wanted = bool(left.pop("fail_if_ssl", False)), bool(left.pop("fail_if_not_ssl", False))
    if forbidden and wanted:
        raise ModuleError(f"{at}: fail_if_ssl and fail_if_not_ssl together leave nothing that succeeds")
    return {
        "tls": None if forbidden == wanted else wanted,
        "status": _list(left.pop("valid_status_codes", None), f"{at}.valid_status_codes") or ["2xx"],
        "version": [str(version).removeprefix("HTTP/") for version in versions],
        "header": header,
        "header_not": header_not,
        "header_if_sent": header_if_sent,
        "body": _patterns(left, "fail_if_body_not_matches_regexp", at),
        "body_not": _patterns(left, "fail_if_body_matches_regexp", at),
    }


def _auth(left: Table, at: str) -> Table | None:
    basic = _optional_table(left, "basic_auth", at)
    authorization = _optional_table(left, "authorization", at)
    oauth2 = _optional_table(left, "oauth2", at)
    bearer, bearer_file = left.pop("bearer_token", None), left.pop("bearer_token_file", None)
    if basic is not None:
        _only(basic, ("username", "password", "password_file"), f"{at}.basic_auth")
        return {"basic": {"username": "", **basic}}
    if authorization is not None:
        _only(authorization, ("type", "credentials", "credentials_file"), f"{at}.authorization")
        if str(authorization.get("type", "Bearer")).lower() != "bearer":
            raise ModuleError(f"{at}.authorization.type: only Bearer is supported: use headers")
        bearer = authorization.get("credentials", bearer)
        bearer_file = authorization.get("credentials_file", bearer_file)
    if oauth2 is not None:
        keys = ("client_id", "client_secret", "client_secret_file", "token_url", "scopes")
        _only(oauth2, keys, f"{at}.oauth2")
        return {"oauth2": oauth2}
    if bearer:
        return {"bearer": bearer}
    return {"bearer_file": bearer_file} if bearer_file else None


def _tcp(left: Table, at: str) -> Table:
    steps: list[Json] = []
    for place, step in enumerate(_list(left.pop("query_response", None), f"{at}.query_response")):
        entry = as_table(step, f"{at}.query_response[{place}]")
        _only(entry, ("expect", "send", "starttls"), f"{at}.query_response[{place}]")
        steps.append(_step(entry, f"{at}.query_response[{place}].expect"))
    tls = _tls(left.pop("tls_config", None) or {}, f"{at}.tls_config")
    table: Table = {"dialogue": steps, "ip": _family(left), "slower_than": 86400.0, "tls": tls}
    table["tls_first"] = bool(left.pop("tls", False))
    return table


def _step(entry: Table, at: str) -> Table:
    """A step of a dialogue whose `send` may name groups of its own `expect`, as Go's Expand reads them."""
    expect, send = entry.get("expect"), entry.get("send")
    if not isinstance(expect, str) or not expect:
        return entry
    pattern = _pattern(expect, at)
    step: Table = {**entry, "expect": pattern}
    if isinstance(send, str):
        names = re.compile(pattern).groupindex

        def group(match: re.Match[str]) -> str:
            if match[1]:
                return "$"
            name = match[2] or match[3]
            number = int(name) if name.isdigit() else names.get(name)
            return "" if number is None else f"${{{number}}}"

        step["send"] = _EXPANDED.sub(group, send)
    return step


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
    for theirs, ours in _SECTIONS.items():
        rules = _optional_table(left, theirs, at)
        if rules is not None:
            table[ours] = {
                our_rule: _patterns(rules, their_rule, f"{at}.{theirs}")
                for their_rule, our_rule in _RULES.items()
            }
            nothing_left(rules, f"{at}.{theirs}")
    return table


def _tls(value: Json, at: str) -> Table:
    left = dict(as_table(value, at))
    table: Table = {ours: left.pop(theirs) for theirs, ours in _TLS_KEYS.items() if theirs in left}
    if left.pop("insecure_skip_verify", False):
        table["verify"] = False
    for key in ("min_version", "max_version"):
        if key in left:
            table[key] = _TLS_VERSIONS.get(str(left.pop(key)), "?")
    nothing_left(left, at)
    return table


def _patterns(left: Table, key: str, at: str) -> list[Json]:
    """The list of Go's regular expressions under `key`, taken out of `left`."""
    return [_pattern(pattern, f"{at}.{key}") for pattern in _list(left.pop(key, None), f"{at}.{key}")]


def _pattern(pattern: Json, at: str) -> str:
    try:
        return python_pattern(str(pattern))
    except ValueError as error:
        raise ModuleError(f"{at}: {error}") from error


def _family(left: Table) -> str:
    six = left.pop("preferred_ip_protocol", "ip6") != "ip4"
    fallback = left.pop("ip_protocol_fallback", True) is not False
    return f"{'prefer' if fallback else 'only'}_{6 if six else 4}"


def _list(value: Json, at: str) -> list[Json]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ModuleError(f"{at}: a list is expected")
    return value


def _optional_table(left: Table, key: str, at: str) -> Table | None:
    """A copy of the table under `key`, taken out of `left`; None when there is none."""
    value = left.pop(key, None)
    return None if value is None else dict(as_table(value, f"{at}.{key}"))


def as_table(value: Json, at: str) -> Table:
    """`value`, which must be a table. Raises ModuleError."""
    if not isinstance(value, dict):
        raise ModuleError(f"{at}: a table is expected")
    return value


def _only(table: Table, keys: tuple[str, ...], at: str) -> None:
    nothing_left({key: value for key, value in table.items() if key not in keys}, at)


def nothing_left(table: Table, at: str) -> None:
    """Raises ModuleError for the first key that nobody took out of `table`."""
    for key in table:
        raise ModuleError(f"{at}.{key}: not supported")


def seconds(value: Json, at: str) -> float:
    """A duration as blackbox.yml writes it. Raises ModuleError."""
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


# The readers by the word after `prober:`.
TABLES: Final[dict[str, Callable[[Table, str], Table]]] = {"http": _http, "tcp": _tcp, "dns": _dns}
