"""Every section of the file as one environment sees it."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping as MappingType
from itertools import chain
from typing import Any, Final, TypeVar

import msgspec

from agent.platform.alert_reader import AlertReader
from agent.platform.careful import Unset
from agent.platform.components import ComponentReader
from agent.platform.convert import Reader
from agent.platform.effective import own_view
from agent.platform.implied import left_alone
from agent.platform.model import Agent, Broker, Environment, Security, Table, Variable
from agent.platform.probe_section import modules, own_addresses
from agent.platform.problem import Problems
from agent.platform.scope import Scope
from agent.platform.tree import Mapping, Node, Scalar, find, is_null
from agent.telemetry.options import IntakeOptions
from checks.units import Duration

T = TypeVar("T", bound=Table)
R = TypeVar("R")
# The latency buckets of OpenTelemetry's HTTP conventions, and the strategy's two seconds.
STANDARD_EDGES_S: Final = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.0, 2.5, 5.0, 7.5, 10.0,
)  # fmt: skip


class EnvironmentReader:
    """Reads the whole file for one environment."""

    def __init__(
        self, root: Mapping, name: str, *, environ: MappingType[str, str], problems: Problems
    ) -> None:
        self._root = root
        self._name = name
        self._problems = problems
        alias = find(root, "environments", name, "alias")
        self._alias = alias.text if isinstance(alias, Scalar) and alias.text else name
        self._reader = Reader(name, self._alias, environ, problems)

    @property
    def unset(self) -> list[Unset]:
        """The variables this environment needs and does not have."""
        return self._reader.unset

    def scope(self, *, platform: str) -> Scope:
        """Everything in effect; what could not be read is missing from it and noted as a problem."""
        # A stand-in when its own table is wrong: the other sections' mistakes are told all the same.
        environment = self._environment() or Environment(name=self._name, alias=self._alias)
        agent = self._single("agent", Agent) or Agent()
        security = self._single("security", Security) or Security()
        components = ComponentReader(
            self._reader, environment, self._problems, security=security, agent=agent
        )
        alert_reader = AlertReader(self._reader, environment, self._problems)
        alerts = alert_reader.section(self._root.get("alerts"), self._root)
        probe_targets = self._top("probe_targets", tuple[str, ...])
        scope = Scope(
            platform=platform,
            environment_name=self._name,
            environment=environment,
            services=self._each("services", components.service),
            databases=self._each("databases", components.database),
            brokers=self._each("brokers", lambda name, node: components.component(name, node, Broker)),
            hosts=self._each("hosts", components.host),
            rules=alert_reader.in_force(alerts),
            receivers=alerts.receivers,
            alerts=alerts,
            agent=agent,
            variables=self._each("variables", self._variable),
            security=security,
            telemetry=self._telemetry(agent),
            latency_edges_s=self._edges(),
            probe_targets=() if probe_targets is None else probe_targets,
            probe_modules=modules(
                self._root, self._top("probe_modules", dict[str, Any]) or {}, self._problems
            ),
        )
        scope = msgspec.structs.replace(
            scope,
            databases={
                name: left_alone(database, scope.services) for name, database in scope.databases.items()
            },
        )
        if probe_targets is not None:
            return scope
        places = own_addresses(
            chain(scope.services.values(), scope.databases.values(), scope.brokers.values())
        )
        return msgspec.structs.replace(scope, probe_targets=places)

    def _environment(self) -> Environment | None:
        node = find(self._root, "environments", self._name)
        assert node is not None
        return self._reader.table(
            Mapping(node.at, {}) if is_null(node) else node,
            Environment,
            key=f"environments.{self._name}",
            fixed={"name": self._name},
            defaults={"alias": self._name},
        )

    def _variable(self, name: str, node: Node) -> Variable | None:
        return self._reader.table(
            Mapping(node.at, {}) if is_null(node) else node,
            Variable,
            key=f"variables.{name}",
            fixed={"name": name},
        )

    def _single(self, section: str, wanted: type[T]) -> T | None:
        node = self._root.get(section)
        if node is None or is_null(node):
            return None
        return self._reader.table(own_view(node, self._name), wanted, key=section)

    def _telemetry(self, agent: Agent) -> IntakeOptions:
        node = self._root.get("telemetry")
        if node is None or is_null(node):
            node = Mapping(self._root.at, {})
        # Where it listens is one of the agent's own settings, beside the other address.
        places = {"listen": agent.otlp_listen, "grpc_listen": agent.otlp_grpc_listen}
        options = self._reader.table(own_view(node, self._name), IntakeOptions, key="telemetry", fixed=places)
        return options or IntakeOptions()

    def _top(self, section: str, wanted: Any) -> Any:
        node = self._root.get(section)
        return None if node is None else self._reader.value(node, wanted, key=section)

    def _edges(self) -> tuple[float, ...]:
        extra = self._top("latency_edges", tuple[Duration, ...]) or ()
        return tuple(sorted({*STANDARD_EDGES_S, *(float(edge) for edge in extra)}))

    def _each(self, section: str, read: Callable[[str, Node], R | None]) -> dict[str, R]:
        node = self._root.get(section)
        if node is None or is_null(node):
            return {}
        if not isinstance(node, Mapping):
            self._problems.add(node.at, f'"{section}" must be a table of names', key=section)
            return {}
        found = {}
        for name, entry in node.entries.items():
            item = read(name, own_view(entry.value, self._name))
            if item is not None:
                found[name] = item
        return found
