"""What is looked at first: all that needs no further import; the rest follows while the first looks run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from msgspec.structs import replace

from agent.platform.model import Broker, Database, Host, Service
from agent.platform.scope import Scope
from checks.catalog import CheckKind, kind

Component = Service | Database | Broker | Host
C = TypeVar("C", Service, Database, Broker, Host)


def early(scope: Scope) -> Scope:
    """The part of an environment whose checks can be built at once. All its services or none."""
    services = scope.services if all(map(_ready, scope.services.values())) else {}
    return replace(
        scope,
        services=services,
        databases=_those(scope.databases, ready=True),
        brokers=_those(scope.brokers, ready=True),
        hosts=_those(scope.hosts, ready=True),
    )


def late(scope: Scope) -> Scope:
    """The other part, whose checks have something to import before they can be built."""
    services = {} if all(map(_ready, scope.services.values())) else scope.services
    return replace(
        scope,
        services=services,
        databases=_those(scope.databases, ready=False),
        brokers=_those(scope.brokers, ready=False),
        hosts=_those(scope.hosts, ready=False),
    )


def imports(scopes: Iterable[Scope]) -> tuple[str, ...]:
    """The modules that the checks of `scopes` need beyond what validating them imported."""
    kinds = (one for scope in scopes for component in _components(scope) for one in _kinds(component))
    return tuple(dict.fromkeys(name for one in kinds for name in one.needs))


def _those(components: Mapping[str, C], *, ready: bool) -> dict[str, C]:
    return {name: component for name, component in components.items() if _ready(component) is ready}


def _ready(component: Component) -> bool:
    return all(one.ready for one in _kinds(component))


def _kinds(component: Component) -> Iterable[CheckKind]:
    own = "http" if isinstance(component, Service) else component.kind
    return (kind(name) for name in (own, *(check.kind for check in component.checks.values())))


def _components(scope: Scope) -> Iterable[Component]:
    yield from scope.services.values()
    yield from scope.databases.values()
    yield from scope.brokers.values()
    yield from scope.hosts.values()
