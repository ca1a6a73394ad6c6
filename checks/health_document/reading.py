"""From bytes to a HealthDocument: recognises the dialect by its keys; anything else is no health document."""

from __future__ import annotations

from typing import Final

import msgspec

from checks.finding import SEVERITY, Claim, State
from checks.health_document.document import Dialect, HealthDocument, state_of
from checks.health_document.json import Json
from checks.wire.redaction import tidy

LARGEST_BYTES: Final = 1 << 20
_MOST_CLAIMS: Final = 100
_LONGEST_NAME: Final = 100
_LONGEST_OUTPUT: Final = 300
_DEEPEST: Final = 6

_STATUS_KEYS: Final = ("status", "state", "health", "healthy", "ok")
# Containers of dependencies in documents people write by hand.
_GROUPS: Final = (
    "services",
    "checks",
    "dependencies",
    "components",
    "details",
    "upstreams",
    "subsystems",
    "health",
)
_FLAG_ENDINGS: Final = (
    "_connected",
    "_healthy",
    "_ok",
    "_up",
    "_ready",
    "_available",
    "_alive",
    "_reachable",
)
_OUTPUTS: Final = ("output", "message", "error", "description", "exception", "reason", "detail")
_HEALTH_JSON_STATES: Final = {"pass", "ok", "up", "warn", "fail", "error", "down"}


def read(body: bytes) -> HealthDocument | None:
    """The document in `body`, or None when it is not one. Never raises."""
    text = body.lstrip(b"\xef\xbb\xbf \t\r\n")
    if len(body) > LARGEST_BYTES or not text.startswith(b"{"):
        return None
    try:
        tree: Json = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return document(tree) if isinstance(tree, dict) else None


def document(tree: dict[str, Json]) -> HealthDocument | None:
    """The document in a parsed JSON object, or None when it is not one."""
    status = _status(tree)
    if status is None:
        return None
    word, state = status
    dialect = _dialect(tree, word)
    match dialect:
        case Dialect.HEALTH_JSON:
            claims = _health_json_claims(tree)
        case Dialect.ACTUATOR:
            claims = _nested_claims(tree.get("components") or tree.get("details"), "")
        case Dialect.MICROPROFILE:
            claims = _listed_claims(tree.get("checks"))
        case Dialect.ASPNET:
            claims = _nested_claims(tree.get("entries") or tree.get("results"), "")
        case Dialect.PLAIN:
            claims = _plain_claims(tree)
    return HealthDocument(
        dialect=dialect,
        state=state,
        word=str(word)[:_LONGEST_NAME],
        claims=tuple(claims[:_MOST_CLAIMS]),
        output=_output(tree),
        version=_text(tree.get("version") or tree.get("releaseId"))[:_LONGEST_NAME],
    )


def _status(tree: dict[str, Json]) -> tuple[Json, State] | None:
    for key in _STATUS_KEYS:
        for spelling in (key, key.capitalize()):
            value = tree.get(spelling)
            state = state_of(value)
            if state is not None and not (isinstance(value, bool) and key in ("status", "state", "health")):
                return value, state
    return None


def _dialect(tree: dict[str, Json], word: Json) -> Dialect:
    checks = tree.get("checks")
    lowered = str(word).lower()
    if isinstance(checks, dict) and lowered in _HEALTH_JSON_STATES and _holds_lists(checks):
        return Dialect.HEALTH_JSON
    if "entries" in tree or ("results" in tree and "totalDuration" in tree) or "totalDuration" in tree:
        return Dialect.ASPNET
    if isinstance(checks, list) and str(word) in ("UP", "DOWN"):
        return Dialect.MICROPROFILE
    if str(word).isupper() and (
        isinstance(tree.get("components"), dict) or isinstance(tree.get("details"), dict)
    ):
        return Dialect.ACTUATOR
    if lowered in ("pass", "warn", "fail"):
        return Dialect.HEALTH_JSON
    if str(word) in ("UP", "DOWN", "OUT_OF_SERVICE", "UNKNOWN") and len(tree) <= 2:
        return Dialect.ACTUATOR
    return Dialect.PLAIN


def _holds_lists(checks: dict[str, Json]) -> bool:
    return all(isinstance(entries, list) for entries in checks.values())


def _health_json_claims(tree: dict[str, Json]) -> list[Claim]:
    """`checks` maps "component:measurement" to entries; one claim per component, the worst of them."""
    checks = tree.get("checks")
    if not isinstance(checks, dict):
        return []
    worst: dict[str, Claim] = {}
    for key, entries in checks.items():
        component = key.partition(":")[0] or key
        for entry in entries if isinstance(entries, list) else [entries]:
            claim = _claim(component, entry)
            if claim is None:
                continue
            held = worst.get(component)
            if held is None or SEVERITY.index(claim.state) < SEVERITY.index(held.state):
                worst[component] = claim
    return list(worst.values())


def _nested_claims(group: Json, prefix: str, depth: int = 0) -> list[Claim]:
    """Objects that hold their own components become claims "outer/inner"."""
    claims: list[Claim] = []
    if not isinstance(group, dict) or depth > _DEEPEST:
        return claims
    for name, entry in group.items():
        if len(claims) >= _MOST_CLAIMS:
            break
        claim = _claim(prefix + name, entry)
        if claim is not None:
            claims.append(claim)
        if isinstance(entry, dict):
            for key in ("components", "details", "entries"):
                claims.extend(_nested_claims(entry.get(key), f"{prefix}{name}/", depth + 1))
    return claims


def _listed_claims(entries: Json) -> list[Claim]:
    if not isinstance(entries, list):
        return []
    found = [
        _claim(_text(entry.get("name") or entry.get("service") or entry.get("id")), entry)
        for entry in entries
        if isinstance(entry, dict)
    ]
    return [claim for claim in found if claim is not None and claim.about]


def _plain_claims(tree: dict[str, Json]) -> list[Claim]:
    claims: list[Claim] = []
    for key, value in tree.items():
        if key.lower() in _STATUS_KEYS and not isinstance(value, dict):
            continue
        if key.lower() in _GROUPS and isinstance(value, dict):
            claims.extend(_nested_claims(value, ""))
        elif key.lower() in _GROUPS and isinstance(value, list):
            claims.extend(_listed_claims(value))
        elif isinstance(value, bool):
            name = _flagged(key)
            if name is not None:
                claims.append(_claim_of(name, State.UP if value else State.DOWN, ""))
        elif isinstance(value, dict) and _status(value) is not None:
            claims.extend(_nested_claims({key: value}, ""))
        elif isinstance(value, str) and state_of(value) is not None:
            claims.append(_claim_of(_flagged(key) or key, state_of(value) or State.UNKNOWN, ""))
    return claims


def _flagged(key: str) -> str | None:
    """`nats_connected` is a flag about nats."""
    for ending in _FLAG_ENDINGS:
        if key.lower().endswith(ending) and len(key) > len(ending):
            return key[: -len(ending)]
    return None


def _claim(about: str, entry: Json) -> Claim | None:
    if isinstance(entry, dict):
        status = _status(entry)
        if status is None:
            connected = entry.get("connected", entry.get("isHealthy", entry.get("up")))
            if not isinstance(connected, bool):
                return None
            status = (connected, State.UP if connected else State.DOWN)
        return _claim_of(about, status[1], _output(entry))
    state = state_of(entry)
    return None if state is None else _claim_of(about, state, "")


def _claim_of(about: str, state: State, output: str) -> Claim:
    return Claim(about=about[:_LONGEST_NAME], state=state, output=output)


def _output(tree: dict[str, Json]) -> str:
    for key in _OUTPUTS:
        text = _text(tree.get(key))
        if text:
            return tidy(text[:_LONGEST_OUTPUT])
    details = tree.get("details")
    if isinstance(details, dict):
        return tidy(_text(details.get("error") or details.get("message"))[:_LONGEST_OUTPUT])
    return ""


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""
