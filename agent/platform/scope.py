"""The platform as loaded, and what of it holds in one environment."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from agent.platform.careful import Unset
from agent.platform.model import (
    Agent,
    Broker,
    Database,
    Environment,
    Host,
    Security,
    Service,
    Variable,
)
from agent.platform.problem import PlatformError, Position, Problem, Problems, nearest
from agent.telemetry.options import IntakeOptions
from alerts.receiver import Receiver
from alerts.rule import Rule
from alerts.section import AlertsSection


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """Everything effective in one environment: overrides applied, `{env}` and variables expanded.

    `rules` are those of the environment's policy, `receivers` those that serve it; `alerts` holds the rest
    of that table. `dependencies` names what each service needs. `latency_edges_s` are the bucket edges of
    the services' latency histograms.
    """

    platform: str
    environment_name: str
    environment: Environment
    services: Mapping[str, Service]
    databases: Mapping[str, Database]
    brokers: Mapping[str, Broker]
    hosts: Mapping[str, Host]
    rules: Mapping[str, Rule]
    receivers: Mapping[str, Receiver]
    alerts: AlertsSection
    agent: Agent
    variables: Mapping[str, Variable]
    security: Security
    telemetry: IntakeOptions
    latency_edges_s: tuple[float, ...]
    probe_targets: tuple[str, ...]
    probe_modules: Mapping[str, object]

    @property
    def dependencies(self) -> dict[str, tuple[str, ...]]:
        """What each service depends on, by name."""
        return {name: service.depends_on for name, service in self.services.items()}


class Platform(msgspec.Struct, frozen=True, kw_only=True):
    """A file without errors. `warnings` work but are probably not meant; `unset` lacks variables."""

    name: str
    files: tuple[str, ...]
    scopes: Mapping[str, Scope]
    unset: tuple[Unset, ...]
    warnings: tuple[Problem, ...]

    @property
    def environments(self) -> Mapping[str, Environment]:
        """The environments by name, in the order of the file."""
        return {name: scope.environment for name, scope in self.scopes.items()}

    def scope(self, environment: str, *, calls: bool = True) -> Scope:
        """What holds in `environment` (its name or alias).

        Without `calls` nobody will be called: receivers are left out and their variables may be unset.
        Raises PlatformError for an unknown environment and for variables that are not set.
        """
        name = self.name_of(environment)
        missing = self.unset_in(name, calls=calls)
        if missing:
            raise PlatformError(missing)
        scope = self.scopes[name]
        return scope if calls else msgspec.structs.replace(scope, receivers={})

    def name_of(self, environment: str) -> str:
        """The name of the environment with this name or alias. Raises PlatformError."""
        for name, scope in self.scopes.items():
            if environment in {name, scope.environment.alias}:
                return name
        problems = Problems()
        problems.add(
            Position(self.files[0], 1, 1),
            f'there is no environment "{environment}"; defined: {", ".join(self.scopes)}',
            key="environments",
            nearest=nearest(environment, self.scopes),
        )
        raise PlatformError(problems.all())

    def unset_in(self, environment: str, *, calls: bool = True) -> tuple[Problem, ...]:
        """The variables `environment` needs and does not have, as errors."""
        return tuple(
            unset_problem(unset)
            for unset in self.unset
            if unset.environment == environment and (calls or not unset.key.startswith("alerts.receivers."))
        )


def unset_problem(unset: Unset) -> Problem:
    """The mistake of starting without a variable."""
    return Problem(
        file=unset.at.file,
        line=unset.at.line,
        column=unset.at.column,
        key=unset.key,
        message=f"${{{unset.name}}} is not set; environment {unset.environment} needs it",
        width=unset.width,
        environment=unset.environment,
    )
