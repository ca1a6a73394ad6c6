"""Confirming looks that could never be taken: the next regular look would come before them."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping as MappingType

from agent.platform.place import Places
from agent.platform.problem import Problems
from agent.platform.scope import Scope
from checks.units import Duration
from checks.verdict import ConfirmPolicy


def check_confirmation(scopes: MappingType[str, Scope], places: Places, problems: Problems) -> None:
    """Note every written time that does not fit into the interval of what it is written for."""
    for scope in scopes.values():
        for owner, policy, interval in _confirmed(scope):
            for name, times in policy.times():
                path = _written(owner, name, scope, places)
                if path is not None and times and times[-1] >= interval:
                    message = (
                        f"a confirming look after {times[-1]} never comes: the next regular one does, "
                        f"each {interval} in {scope.environment_name}"
                    )
                    places.note(problems, path, message)


def _confirmed(scope: Scope) -> Iterator[tuple[tuple[str, ...], ConfirmPolicy, Duration]]:
    environment = scope.environment
    yield ("environments", scope.environment_name), environment.confirm, environment.check_interval
    for section in ("services", "databases", "brokers", "hosts"):
        for name, component in getattr(scope, section).items():
            yield (section, name), component.confirm, component.interval


def _written(owner: tuple[str, ...], name: str, scope: Scope, places: Places) -> tuple[str, ...] | None:
    """Where the times are written for `owner` itself; what it inherits was judged where it stands."""
    overridden = (*owner, "environments", scope.environment_name, "confirm", name)
    for path in (overridden, (*owner, "confirm", name)):
        if places.written(*path):
            return path
    return None
