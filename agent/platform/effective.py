"""One environment's view of the tree: its overrides laid over, its variables expanded, its tables typed."""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from agent.platform.convert import Reader, Unset
from agent.platform.model import (
    Agent,
    Broker,
    CheckSpec,
    Database,
    Environment,
    Host,
    Machines,
    Security,
    Service,
    Table,
    Vantage,
    Variable,
    through_fly_proxy,
)
from agent.platform.problem import Problems, nearest
from agent.platform.scope import Scope
from agent.platform.tree import Entry, Mapping, Node, Scalar, Sequence, is_null, overlay, without
from alerts.receiver import Receiver
from alerts.rule import DEFAULT_POLICIES, DEFAULT_RULES, Rule, in_force
from alerts.section import AlertsSection
from checks.catalog import kind as check_kind
from checks.catalog import names as check_names
from checks.http.options import HttpOptions
from checks.units import Duration

T = TypeVar("T", bound=Table)
_MAX_TIMEOUT_S: Final = 5.0
_TIMEOUT_SHARE: Final = 0.8
_EMPTY: Final[MappingType[str, Entry]] = {}
# Service level objectives of the OpenTelemetry HTTP conventions, and the strategy's two seconds.
STANDARD_EDGES_S: Final = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.0, 2.5, 5.0, 7.5, 10.0,
)  # fmt: skip


class EnvironmentReader:
    """Reads every section as one environment sees it."""

    def __init__(
        self, root: Mapping, name: str, *, environ: MappingType[str, str], problems: Problems
    ) -> None:
        self._root = root
        self._name = name
        self._problems = problems
        self._alias = _alias(root, name)
        self._reader = Reader(name, self._alias, environ, problems)

    @property
    def unset(self) -> list[Unset]:
        """The variables this environment needs and does not have."""
        return self._reader.unset

    def scope(self, *, platform: str) -> Scope | None:
        """Everything in effect, or None when not even the environment's own table can be read."""
        environment = self._environment()
        if environment is None:
            # The other sections are read all the same, so that their mistakes are told too.
            environment = Environment(name=self._name, alias=self._alias)
            known = False
        else:
            known = True
        rules, alerts = self._alerts(environment)
        scope = Scope(
            platform=platform,
            environment_name=self._name,
            environment=environment,
            services=self._each("services", lambda name, node: self._service(name, node, environment)),
            databases=self._each(
                "databases", lambda name, node: self._component(name, node, Database, environment)
            ),
            brokers=self._each(
                "brokers", lambda name, node: self._component(name, node, Broker, environment)
            ),
            hosts=self._each("hosts", lambda name, node: self._component(name, node, Host, environment)),
            rules=rules,
            receivers=alerts.receivers,
            alerts=alerts,
            agent=self._single("agent", Agent) or Agent(),
            variables=self._each(
                "variables",
                lambda name, node: self._reader.table(
                    node, Variable, key=f"variables.{name}", fixed={"name": name}
                ),
            ),
            security=self._single("security", Security) or Security(),
            latency_edges_s=self._edges(),
            probe_targets=self._top("probe_targets", tuple[str, ...]) or (),
            probe_modules=self._top("probe_modules", dict[str, Any]) or {},
            probe_modules_file=self._top("probe_modules_file", str),
        )
        return scope if known else None

    def _environment(self) -> Environment | None:
        environments = self._root.get("environments")
        assert isinstance(environments, Mapping)
        node = environments.entries[self._name].value
        if is_null(node):
            node = Mapping(node.at, {})
        return self._reader.table(
            node,
            Environment,
            key=f"environments.{self._name}",
            fixed={"name": self._name},
            defaults={"alias": self._name},
        )

    def _single(self, section: str, wanted: type[T]) -> T | None:
        node = self._root.get(section)
        if node is None or is_null(node):
            return None
        return self._reader.table(node, wanted, key=section)

    def _top(self, section: str, wanted: Any) -> Any:
        node = self._root.get(section)
        return None if node is None else self._reader.value(node, wanted, key=section)

    def _edges(self) -> tuple[float, ...]:
        extra = self._top("latency_edges", tuple[Duration, ...]) or ()
        return tuple(sorted({*STANDARD_EDGES_S, *(float(edge) for edge in extra)}))

    def _each(self, section: str, read: Any) -> dict[str, Any]:
        node = self._root.get(section)
        if node is None or is_null(node):
            return {}
        if not isinstance(node, Mapping):
            self._problems.add(node.at, f"{section} must be a table of names", key=section)
            return {}
        found = {}
        for name, entry in node.entries.items():
            item = read(name, self._mine(entry.value, f"{section}.{name}"))
            if item is not None:
                found[name] = item
        return found

    def _mine(self, node: Node, key: str) -> Node:
        """`node` with this environment's own values over the general ones, and this one's resources."""
        if not isinstance(node, Mapping):
            return node
        resources = node.entries.get("resources")
        overrides = node.get("environments")
        plain = without(node, "environments", "resources")
        if isinstance(overrides, Mapping):
            own = overrides.get(self._name)
            if isinstance(own, Mapping):
                plain = overlay(plain, own)
            elif own is not None and not is_null(own):
                self._problems.add(own.at, "expected a table of keys", key=f"{key}.environments.{self._name}")
        if resources is not None and "resources" not in plain.entries:
            if isinstance(resources.value, Mapping):
                own_size = resources.value.entries.get(self._name)
                if own_size is not None:
                    plain.entries["resources"] = own_size
            else:
                plain.entries["resources"] = resources
        return plain

    def _timing(self, node: Mapping, environment: Environment) -> dict[str, object]:
        interval = environment.check_interval
        own = node.get("interval")
        if isinstance(own, Scalar):
            try:
                interval = Duration.parse(own.text)
            except ValueError:
                pass  # The table's own conversion says so, with its place.
        timeout = Duration(min(_MAX_TIMEOUT_S, _TIMEOUT_SHARE * interval))
        return {"interval": interval, "timeout": timeout}

    def _service(self, name: str, node: Node, environment: Environment) -> Service | None:
        if not isinstance(node, Mapping):
            self._not_a_table(node, f"services.{name}")
            return None
        key = f"services.{name}"
        timing = self._timing(node, environment)
        fixed: dict[str, object] = {"name": name, "vantages": (), "checks": self._checks(node, key, timing)}
        http = node.get("http")
        service = self._reader.table(
            without(node, "checks", "http"),
            Service,
            key=key,
            fixed=fixed,
            defaults={**timing, "machines": environment.machines},
            also=("checks", "http", "environments"),
        )
        if service is None:
            return None
        vantages = []
        for vantage, url in _ways(service):
            options = self._reader.table(
                without(http, "url") if isinstance(http, Mapping) else http or Mapping(node.at, {}),
                HttpOptions,
                key=f"{key}.http",
                fixed={"url": url.rstrip("/") + service.health},
                defaults={"timeout": service.timeout, "slower_than": service.slower_than},
            )
            if options is not None:
                vantages.append(Vantage(name=vantage, url=url, options=options))
        app = service.app or _fly_app(service.internal_url) or _fly_app(service.url)
        return msgspec.structs.replace(service, vantages=tuple(vantages), app=app)

    def _component(self, name: str, node: Node, wanted: type[T], environment: Environment) -> T | None:
        """A database, broker or host: its own keys, and those of its kind of check."""
        section = f"{wanted.__name__.lower()}s"
        key = f"{section}.{name}"
        if is_null(node) and wanted is Host:
            node = Mapping(node.at, {})
        if not isinstance(node, Mapping):
            self._not_a_table(node, key)
            return None
        timing = self._timing(node, environment)
        checks = self._checks(node, key, timing)
        kind_node = node.get("kind")
        default_kind = {field.name: field.default for field in msgspec.structs.fields(wanted)}["kind"]
        kind_name = kind_node.text if isinstance(kind_node, Scalar) else str(default_kind)
        options_type = self._options_type(kind_name, kind_node or node, f"{key}.kind")
        if options_type is None:
            return None
        own = {field.encode_name for field in msgspec.structs.fields(wanted)}
        theirs = {field.encode_name for field in msgspec.structs.fields(options_type)}
        foreign = [known for known in node.entries if known in theirs and known not in own]
        table = self._reader.table(
            without(node, "checks", *foreign),
            wanted,
            key=key,
            fixed={"name": name, "checks": checks, "options": _NO_OPTIONS},
            defaults=timing,
            also=(*theirs, "checks", "environments"),
        )
        if table is None:
            return None
        shared = {known: getattr(table, known) for known in own & theirs if known in node.entries}
        options = self._reader.table(
            Mapping(node.at, {known: node.entries[known] for known in foreign}),
            options_type,
            key=key,
            defaults=shared,
        )
        return None if options is None else msgspec.structs.replace(table, options=options)

    def _checks(self, node: Mapping, key: str, timing: dict[str, object]) -> dict[str, CheckSpec]:
        checks = node.get("checks")
        if checks is None or is_null(checks):
            return {}
        if not isinstance(checks, Mapping):
            self._not_a_table(checks, f"{key}.checks")
            return {}
        found = {}
        for name, entry in checks.entries.items():
            spec = self._check(name, entry.value, f"{key}.checks.{name}", timing)
            if spec is not None:
                found[name] = spec
        return found

    def _check(self, name: str, node: Node, key: str, timing: dict[str, object]) -> CheckSpec | None:
        if not isinstance(node, Mapping):
            self._not_a_table(node, key)
            return None
        kind_node = node.get("kind")
        if not isinstance(kind_node, Scalar):
            self._problems.add(node.at, f'"{name}" needs "kind": one of {", ".join(check_names())}', key=key)
            return None
        options_type = self._options_type(kind_node.text, kind_node, f"{key}.kind")
        if options_type is None:
            return None
        common = self._reader.table(
            Mapping(
                node.at, {k: node.entries[k] for k in ("kind", "interval", "timeout") if k in node.entries}
            ),
            CheckSpec,
            key=key,
            fixed={"name": name, "options": _NO_OPTIONS},
            defaults=timing,
        )
        fields = {field.encode_name for field in msgspec.structs.fields(options_type)}
        options = self._reader.table(
            without(node, "kind", "interval", "timeout"),
            options_type,
            key=key,
            defaults={"timeout": common.timeout} if common is not None and "timeout" in fields else {},
            also=("interval", "timeout"),
        )
        if common is None or options is None:
            return None
        return msgspec.structs.replace(common, options=options)

    def _options_type(self, name: str, node: Node, key: str) -> type[msgspec.Struct] | None:
        try:
            return check_kind(name).options
        except KeyError:
            self._problems.add(
                node.at,
                f'there is no kind of check called "{name}"; there are: {", ".join(check_names())}',
                key=key,
                nearest=nearest(name, check_names()),
                width=len(name),
            )
            return None

    def _alerts(self, environment: Environment) -> tuple[dict[str, Rule], AlertsSection]:
        node = self._root.get("alerts")
        if node is None or is_null(node):
            node = Mapping(self._root.at, {})
        if not isinstance(node, Mapping):
            self._not_a_table(node, "alerts")
            node = Mapping(node.at, {})
        rules = self._rules(node)
        policies = dict(DEFAULT_POLICIES)
        written = node.get("policies")
        if written is not None:
            policies |= self._reader.value(written, dict[str, tuple[str, ...]], key="alerts.policies") or {}
        policy = policies.get(environment.alerts, ())
        receivers = self._receivers(node) if policy else {}
        section = self._reader.table(
            without(node, "rules", "policies", "receivers"),
            AlertsSection,
            key="alerts",
            fixed={"rules": {}, "policies": policies, "receivers": receivers},
            also=("rules", "policies", "receivers"),
        ) or AlertsSection(policies=policies, receivers=receivers)
        known = tuple(name for name in policy if name in rules)
        chosen = in_force(rules, known) if known or not policy else {}
        return chosen, msgspec.structs.replace(section, rules=rules)

    def _rules(self, alerts: Mapping) -> dict[str, Rule]:
        rules = dict(DEFAULT_RULES)
        written = alerts.get("rules")
        if written is None or is_null(written):
            return rules
        if not isinstance(written, Mapping):
            self._not_a_table(written, "alerts.rules")
            return rules
        for name, entry in written.entries.items():
            node = self._mine(entry.value, f"alerts.rules.{name}")
            rule = self._reader.value(node, Rule, key=f"alerts.rules.{name}")
            rules.pop(name, None)
            if rule is not None:
                rules[name] = rule
        return rules

    def _receivers(self, alerts: Mapping) -> dict[str, Receiver]:
        written = alerts.get("receivers")
        if written is None or is_null(written):
            return {}
        if not isinstance(written, Mapping):
            self._not_a_table(written, "alerts.receivers")
            return {}
        found = {}
        for name, entry in written.entries.items():
            if self._serves(entry.value):
                receiver = self._reader.table(entry.value, Receiver, key=f"alerts.receivers.{name}")
                if receiver is not None:
                    found[name] = receiver
        return found

    def _serves(self, node: Node) -> bool:
        """Whether a receiver is for this environment; the variables of others are not needed here."""
        wanted = node.get("environments") if isinstance(node, Mapping) else None
        if not isinstance(wanted, Sequence) or not wanted.items:
            return True
        return any(isinstance(item, Scalar) and item.text == self._name for item in wanted.items)

    def _not_a_table(self, node: Node, key: str) -> None:
        self._problems.add(node.at, f'"{key.rpartition(".")[2]}" must be a table of keys', key=key)


class _NoOptions(msgspec.Struct, frozen=True):
    """Stands in until a kind's own options are read."""


_NO_OPTIONS: Final = _NoOptions()


def _alias(root: Mapping, name: str) -> str:
    environments = root.get("environments")
    table = environments.get(name) if isinstance(environments, Mapping) else None
    alias = table.get("alias") if isinstance(table, Mapping) else None
    return alias.text if isinstance(alias, Scalar) and alias.text else name


def _ways(service: Service) -> list[tuple[str, str]]:
    """The ways to probe, public first; none through a proxy that would start what sleeps on purpose."""
    wanted = service.probe
    if wanted is None:
        wanted = ("public",) if service.url else ("internal",)
    urls = {"public": service.url, "internal": service.internal_url}
    ways = [(way, url) for way in wanted if (url := urls[way])]
    ways += [(f"instance_{number}", url) for number, url in enumerate(service.instances, start=1)]
    return [(way, url) for way, url in ways if not (service.asleep_allowed and through_fly_proxy(url))]


def _fly_app(url: str | None) -> str | None:
    host = urlsplit(url or "").hostname or ""
    app, dot, domain = host.partition(".")
    return app if dot and domain in {"fly.dev", "flycast", "internal"} else None


__all__ = ["STANDARD_EDGES_S", "EnvironmentReader", "Machines"]
