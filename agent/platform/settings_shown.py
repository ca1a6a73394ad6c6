"""Every value in effect in one environment, with the place it comes from; secrets covered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from agent.platform.effective import own_view
from agent.platform.scope import Scope
from agent.platform.tree import Mapping, Node, Scalar, Sequence, find, overlay
from alerts.rule import signal
from checks.secret import Secret

DEFAULT: Final = "default"
_COMPONENTS: Final = ("services", "databases", "brokers", "hosts", "variables")
_TABLES: Final = ("agent", "security", "telemetry")
# Options and ways to probe repeat what stands above them; the name is the key.
_KEY_BY_KEY: Final = {"confirm"}
_REPEATED: Final = {"name", "vantages"}


class Setting(msgspec.Struct, frozen=True):
    """One value: `key` is its path, `value` as it is written, `origin` where it is written or `default`."""

    key: str
    value: str
    origin: str


def settings(scope: Scope, root: Mapping) -> Iterator[Setting]:
    """Everything, in the order of the file's sections."""
    name = scope.environment_name
    yield Setting("platform", scope.platform, _origin(find(root, "platform")))
    yield from _table(f"environments.{name}", scope.environment, find(root, "environments", name))
    inherited = _inherited(find(root, "environments", name))
    for section in _COMPONENTS:
        for item, table in getattr(scope, section).items():
            written = find(root, section, item)
            view = own_view(written, name) if written is not None else None
            yield from _table(f"{section}.{item}", table, view, inherited)
    for rule_name, rule in scope.rules.items():
        written = find(root, "alerts", "rules", rule_name)
        view = own_view(written, name) if written is not None else None
        key = f"alerts.rules.{rule_name}"
        yield Setting(f"{key}.signal", signal(rule), _origin(find(view, "signal") if view else None))
        yield from _table(key, rule, view)
    for receiver_name, receiver in scope.receivers.items():
        written = find(root, "alerts", "receivers", receiver_name)
        yield from _table(f"alerts.receivers.{receiver_name}", receiver, written)
    for section in _TABLES:
        written = find(root, section)
        view = own_view(written, name) if written is not None else None
        yield from _table(section, getattr(scope, section), view)


def _inherited(environment: Node | None) -> dict[str, Node]:
    """What a component has of its environment when it says nothing itself."""
    if environment is None:
        return {}
    sources = {
        "interval": "check_interval",
        "timeout": "check_interval",
        "machines": "machines",
        "confirm": "confirm",
    }
    found = {key: find(environment, source) for key, source in sources.items()}
    return {key: node for key, node in found.items() if node is not None}


def _table(
    key: str, table: msgspec.Struct, written: Node | None, inherited: dict[str, Node] | None = None
) -> Iterator[Setting]:
    names = zip(table.__struct_fields__, table.__struct_encode_fields__, strict=True)
    for field, name in names:
        if name in _REPEATED:
            continue
        value = getattr(table, field)
        if value is msgspec.UNSET:
            continue
        # A kind's options stand in the component's own table, a further check's in the check's.
        place = written if name == "options" else find(written, name) if written is not None else None
        lent = (inherited or {}).get(name)
        if name in _KEY_BY_KEY and isinstance(place, Mapping) and isinstance(lent, Mapping):
            place = overlay(lent, place)
        path = key if name == "options" else f"{key}.{name}"
        if name == "options" and isinstance(value, msgspec.Struct):
            yield from _own_options(path, table, value, place)
        else:
            yield from _value(path, value, place or lent)


def _own_options(
    key: str, table: msgspec.Struct, options: msgspec.Struct, written: Node | None
) -> Iterator[Setting]:
    shared = set(table.__struct_encode_fields__)
    for setting in _table(key, options, written):
        if setting.key.removeprefix(f"{key}.").split(".", 1)[0] not in shared:
            yield setting


def _value(key: str, value: Any, written: Node | None) -> Iterator[Setting]:
    if isinstance(value, msgspec.Struct):
        yield from _table(key, value, written)
    elif isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _value(f"{key}.{name}", item, find(written, name) if written is not None else None)
    else:
        yield Setting(key, shown(value), _origin(written))


def shown(value: Any) -> str:
    """A value as the file spells it; a secret is covered."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Secret):
        return str(value) if value else '""'
    if isinstance(value, tuple | list):
        return f"[{', '.join(shown(item) for item in value)}]"
    if isinstance(value, msgspec.Struct):
        pairs = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
        return f"{{{', '.join(f'{name}: {shown(getattr(value, field))}' for name, field in pairs)}}}"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {shown(item)}' for name, item in value.items())}}}"
    return str(value) if value != "" else '""'


def _origin(written: Node | None) -> str:
    if written is None:
        return DEFAULT
    place = f"{written.at.file}:{written.at.line}"
    if isinstance(written, Scalar) and "${" in written.text:
        return f"{place} {written.text}"
    if isinstance(written, Sequence) and any(
        isinstance(item, Scalar) and "${" in item.text for item in written.items
    ):
        return f"{place} from variables"
    return place
