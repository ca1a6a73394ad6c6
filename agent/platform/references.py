"""Names that must exist: environments, components, rules, policies, receivers; and no circle among them."""

from __future__ import annotations

import re
from collections.abc import Collection
from collections.abc import Mapping as MappingType
from typing import Final

from agent.platform.place import Places
from agent.platform.problem import Problems, Severity, nearest
from agent.platform.scope import Scope
from agent.platform.tree import Mapping, Node, Scalar, Sequence, find, is_null
from alerts.rule import DEFAULT_POLICIES, DEFAULT_RULES
from alerts.rule import Severity as RuleSeverity

_COMPONENTS: Final = ("services", "databases", "brokers", "hosts")
_NAMED: Final = ("environments", *_COMPONENTS, "variables")
# So many names are shown beside the one that was probably meant.
_FEW: Final = 6
# Names become labels, paths of the API and parts of target keys.
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}")


def check_references(
    root: Mapping, scopes: MappingType[str, Scope], places: Places, problems: Problems
) -> None:
    """Note every name that stands for nothing, and cycles in `depends_on`."""
    _References(root, scopes, places, problems).check()


class _References:
    def __init__(
        self, root: Mapping, scopes: MappingType[str, Scope], places: Places, problems: Problems
    ) -> None:
        self._root = root
        self._scopes = scopes
        self._places = places
        self._problems = problems
        self._components = {name for section in _COMPONENTS for name in self._names(section)}

    def check(self) -> None:
        for path in (*((section,) for section in _NAMED), ("alerts", "rules"), ("alerts", "receivers")):
            self._legal_names(path)
        self._component_names()
        for section in (*_COMPONENTS, "variables"):
            for name in self._names(section):
                self._environment_keys((section, name))
        for name in self._names("alerts", "rules"):
            self._environment_keys(("alerts", "rules", name))
        for name in self._names("services"):
            self._service(name)
        for name in self._names("variables"):
            self._list(("variables", name, "services"), "service", self._names("services"))
        self._cycles()
        self._alerts()
        self._environment_table()

    def _legal_names(self, path: tuple[str, ...]) -> None:
        for name in self._names(*path):
            if not _NAME.fullmatch(name):
                self._places.note_key(
                    self._problems,
                    (*path, name),
                    f'"{name}" is not a name: use up to 63 letters, digits, - and _',
                )
            for check in self._names(*path, name, "checks"):
                if not _NAME.fullmatch(check):
                    self._places.note_key(
                        self._problems,
                        (*path, name, "checks", check),
                        f'"{check}" is not a name: use up to 63 letters, digits, - and _',
                    )

    def _component_names(self) -> None:
        first: dict[str, str] = {}
        for section in _COMPONENTS:
            for name in self._names(section):
                if name in first:
                    self._places.note(
                        self._problems,
                        (section, name),
                        f'"{name}" is already the name of one of the {first[name]}; '
                        "every series is told apart by it",
                    )
                first.setdefault(name, section)

    def _environment_keys(self, path: tuple[str, ...]) -> None:
        for field in ("environments", "resources"):
            table = find(self._root, *path, field)
            if isinstance(table, Mapping) and not (field == "resources" and "memory" in table.entries):
                for name, entry in table.entries.items():
                    if name not in self._scopes:
                        self._unknown((*path, field), "environment", name, self._scopes)
                    elif not isinstance(entry.value, Mapping) and not is_null(entry.value):
                        self._places.note(
                            self._problems, (*path, field, name), f'"{name}" must be a table of keys'
                        )

    def _service(self, name: str) -> None:
        path = ("services", name)
        for owner in self._variants(path):
            self._list((*owner, "depends_on"), "component", self._components, own=name)
            routes = find(self._root, *owner, "routes")
            if isinstance(routes, Mapping):
                for route, entry in routes.entries.items():
                    target = entry.value
                    if isinstance(target, Scalar) and target.text not in self._names("services"):
                        self._unknown_at(
                            (*owner, "routes", route), "service", target.text, self._names("services")
                        )
                    if not route.startswith("/"):
                        self._places.note(
                            self._problems, (*owner, "routes", route), f'route "{route}" must start with /'
                        )

    def _alerts(self) -> None:
        rules = {*DEFAULT_RULES, *self._names("alerts", "rules")}
        receivers = self._names("alerts", "receivers")
        policies = self._names("alerts", "policies")
        for policy in policies:
            self._list(("alerts", "policies", policy), "rule", rules)
        for rule in self._names("alerts", "rules"):
            for owner in self._variants(("alerts", "rules", rule)):
                self._list((*owner, "receivers"), "receiver", receivers)
                self._list((*owner, "targets"), "component", self._components, patterns=True)
            if rule not in DEFAULT_RULES and not any(
                rule in self._names_in("alerts", "policies", it) for it in policies
            ):
                self._places.note_key(
                    self._problems,
                    ("alerts", "rules", rule),
                    f'rule "{rule}" is in no policy: it calls nobody',
                    severity=Severity.WARNING,
                )
        for receiver in receivers:
            self._list(("alerts", "receivers", receiver, "environments"), "environment", self._scopes)
            failover = find(self._root, "alerts", "receivers", receiver, "failover")
            if isinstance(failover, Scalar) and failover.text not in set(receivers) - {receiver}:
                self._unknown_at(
                    ("alerts", "receivers", receiver, "failover"), "receiver", failover.text, receivers
                )
        maintenance = find(self._root, "alerts", "maintenance")
        for window in maintenance.items if isinstance(maintenance, Sequence) else ():
            self._items(find(window, "targets"), "component", self._components, key="alerts.maintenance")
        escalation = find(self._root, "alerts", "escalation")
        if isinstance(escalation, Sequence):
            for step in escalation.items:
                wanted = find(step, "receiver")
                if isinstance(wanted, Scalar) and wanted.text not in receivers:
                    self._problems.add(
                        wanted.at,
                        _undefined("receiver", wanted.text, receivers),
                        key="alerts.escalation",
                        nearest=nearest(wanted.text, receivers),
                        width=wanted.width,
                    )

    def _environment_table(self) -> None:
        policies = {*DEFAULT_POLICIES, *self._names("alerts", "policies")}
        for name, scope in self._scopes.items():
            policy = scope.environment.alerts
            if policy not in policies:
                self._unknown_at(("environments", name, "alerts"), "policy", policy, policies)
            following = scope.environment.deploy.then
            if following is not None and following not in self._scopes:
                self._unknown_at(
                    ("environments", name, "deploy", "then"), "environment", following, self._scopes
                )
            calls = any(
                scope.rules[rule].severity is not RuleSeverity.LOG
                for rule in scope.alerts.policies.get(policy, ())
                if rule in scope.rules
            )
            written = find(self._root, "alerts") is not None
            if calls and written and not scope.receivers and not self._problems.errors():
                self._places.note(
                    self._problems,
                    ("environments", name, "alerts")
                    if find(self._root, "environments", name, "alerts")
                    else ("environments", name),
                    f"{name} judges by policy {policy} but no receiver serves it: nobody will be called",
                    severity=Severity.WARNING,
                )

    def _cycles(self) -> None:
        for scope in self._scopes.values():
            # What depends on itself has been told already.
            edges = {
                name: tuple(needed for needed in needs if needed != name)
                for name, needs in scope.dependencies.items()
            }
            cycle = find_cycle(edges)
            if cycle:
                position, width = self._places.item(("services", cycle[0], "depends_on"), cycle[1])
                self._problems.add(
                    position,
                    f"depends_on goes in a circle: {' -> '.join(cycle)}",
                    key=f"services.{cycle[0]}.depends_on",
                    width=width,
                )

    def _variants(self, path: tuple[str, ...]) -> list[tuple[str, ...]]:
        """A component's own table and its overrides per environment."""
        overrides = find(self._root, *path, "environments")
        names = overrides.entries if isinstance(overrides, Mapping) else ()
        return [path, *((*path, "environments", name) for name in names)]

    def _names(self, *path: str) -> tuple[str, ...]:
        table = find(self._root, *path)
        return tuple(table.entries) if isinstance(table, Mapping) else ()

    def _names_in(self, *path: str) -> tuple[str, ...]:
        table = find(self._root, *path)
        items = table.items if isinstance(table, Sequence) else ()
        return tuple(item.text for item in items if isinstance(item, Scalar))

    def _list(
        self,
        path: tuple[str, ...],
        what: str,
        valid: Collection[str],
        *,
        own: str = "",
        patterns: bool = False,
    ) -> None:
        self._items(find(self._root, *path), what, valid, key=".".join(path), own=own, patterns=patterns)

    def _items(
        self,
        table: Node | None,
        what: str,
        valid: Collection[str],
        *,
        key: str,
        own: str = "",
        patterns: bool = False,
    ) -> None:
        if not isinstance(table, Sequence):
            return
        seen: set[str] = set()
        for item in table.items:
            if not isinstance(item, Scalar) or "{" in item.text or (patterns and "*" in item.text):
                continue
            if own and item.text == own:
                message = f'"{own}" depends on itself'
                self._problems.add(item.at, message, key=key, width=item.width)
            elif item.text not in valid:
                others = [name for name in valid if name != own]
                self._problems.add(
                    item.at,
                    _undefined(what, item.text, others),
                    key=key,
                    nearest=nearest(item.text, others),
                    width=item.width,
                )
            elif item.text in seen:
                self._problems.add(item.at, f'"{item.text}" is named twice', key=key, width=item.width)
            seen.add(item.text)

    def _unknown(self, path: tuple[str, ...], what: str, name: str, valid: Collection[str]) -> None:
        table = find(self._root, *path)
        assert isinstance(table, Mapping)
        self._problems.add(
            table.entries[name].at,
            _undefined(what, name, valid),
            key=".".join((*path, name)),
            nearest=nearest(name, valid),
            width=len(name),
        )

    def _unknown_at(self, path: tuple[str, ...], what: str, name: str, valid: Collection[str]) -> None:
        self._places.note(self._problems, path, _undefined(what, name, valid), nearest=nearest(name, valid))


def find_cycle(edges: MappingType[str, tuple[str, ...]]) -> tuple[str, ...]:
    """A circle among `edges`, first node repeated at its end, or () when there is none."""
    done: set[str] = set()
    for start in edges:
        path: list[str] = []
        stack: list[tuple[str, int]] = [(start, 0)]
        while stack:
            node, position = stack.pop()
            if position == 0:
                if node in path:
                    return (*path[path.index(node) :], node)
                if node in done or node not in edges:
                    continue
                path.append(node)
            following = edges[node]
            if position < len(following):
                stack.append((node, position + 1))
                stack.append((following[position], 0))
            else:
                path.pop()
                done.add(node)
    return ()


def _undefined(what: str, name: str, valid: Collection[str]) -> str:
    said = f'{what} "{name}" is not defined'
    if len(valid) > _FEW and nearest(name, valid):
        return said
    return f"{said}; defined: {', '.join(sorted(valid)) if valid else 'none'}"
