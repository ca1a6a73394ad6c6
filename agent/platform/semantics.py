"""What no single table can know: references, cycles, windows, sizes, topologies that cannot work."""

from __future__ import annotations

import re
from collections.abc import Mapping as MappingType
from typing import Final

from agent.platform import machine_sizes
from agent.platform.call_checks import check_calls
from agent.platform.confirmation import check_confirmation
from agent.platform.model import Service
from agent.platform.place import Places
from agent.platform.problem import Problems, Severity
from agent.platform.references import check_references
from agent.platform.rule_checks import check_rules
from agent.platform.scope import Scope
from agent.platform.trap_checks import check_traps
from agent.platform.tree import Mapping

_LISTEN: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):(\d{1,4}|[1-5]\d{4}|6[0-5]\d{3})")


def check(root: Mapping, scopes: MappingType[str, Scope], problems: Problems) -> None:
    """Note every contradiction of the file with itself and with what Fly.io can give."""
    places = Places(root)
    check_references(root, scopes, places, problems)
    check_rules(scopes, places, problems)
    _environments(scopes, places, problems)
    check_confirmation(scopes, places, problems)
    for scope in scopes.values():
        _listens(scope, places, problems)
        for service in scope.services.values():
            _service(service, scope, places, problems)
    odd = Problems()
    check_traps(scopes, places, odd)
    check_calls(root, scopes, places, odd)
    problems.take(odd.errors())
    # What is odd about a file that cannot be used may only be odd because of that.
    if not problems.errors():
        problems.take(odd.warnings())


def _listens(scope: Scope, places: Places, problems: Problems) -> None:
    for field in ("listen", "otlp_listen", "otlp_grpc_listen"):
        address = getattr(scope.agent, field)
        if address is not None and not _LISTEN.fullmatch(address):
            places.own(
                problems,
                scope.environment_name,
                ("agent", field),
                f'"{address}" is not a place to listen: write host:port, such as 127.0.0.1:9877',
            )


def _environments(scopes: MappingType[str, Scope], places: Places, problems: Problems) -> None:
    aliases: dict[str, str] = {}
    for name, scope in scopes.items():
        alias = scope.environment.alias
        if alias in aliases:
            places.note(
                problems,
                ("environments", name, "alias"),
                f'alias "{alias}" is already that of {aliases[alias]}',
            )
        aliases.setdefault(alias, name)
        _machines(scope, places, problems)


def _machines(scope: Scope, places: Places, problems: Problems) -> None:
    name, machines = scope.environment_name, scope.environment.machines
    if machines is None:
        return
    if machines.min > machines.max:
        places.note(
            problems,
            ("environments", name, "machines", "min"),
            f"min {machines.min} is above max {machines.max}",
        )
    if machines.min == 0 and machines.auto_stop == "off":
        places.note(
            problems,
            ("environments", name, "machines", "min"),
            "min 0 has no effect while auto_stop is off: machines never sleep; write auto_stop: stop",
            severity=Severity.WARNING,
        )


def _service(service: Service, scope: Scope, places: Places, problems: Problems) -> None:
    key = ("services", service.name)
    environment = scope.environment_name
    if not (service.url or service.internal_url or service.instances or service.checks):
        places.note(
            problems,
            key,
            f'"{service.name}" has no url: give it a url, an internal_url, instances or checks',
        )
    if (
        service.internal_url
        and service.internal_url.startswith("https://")
        and ".flycast" in service.internal_url
    ):
        places.own(
            problems,
            environment,
            (*key, "internal_url"),
            "Flycast speaks HTTP only, inside WireGuard: write http://",
        )
    for field, way, url in (("probe", "public", service.url), ("probe", "internal", service.internal_url)):
        if service.probe is not None and way in service.probe and url is None:
            needed = "url" if way == "public" else "internal_url"
            places.own(problems, environment, (*key, field), f"probe says {way} but there is no {needed}")
    if not service.health.startswith("/"):
        places.own(problems, environment, (*key, "health"), f'"{service.health}" must start with /')
    if service.metrics is not None and not service.metrics.startswith(("/", "http://", "https://")):
        places.own(problems, environment, (*key, "metrics"), f'"{service.metrics}" must be a path or a URL')
    if service.timeout > service.interval:
        places.own(
            problems,
            environment,
            (*key, "timeout"),
            f"timeout {service.timeout} is longer than the interval {service.interval} in {environment}",
        )
    if service.slower_than > service.timeout:
        places.own(
            problems,
            environment,
            (*key, "slower_than" if places.written(*key, "slower_than") else "timeout"),
            f"slower_than {service.slower_than} can never be seen in {environment}: "
            f"the probe gives up after {service.timeout}",
            severity=Severity.WARNING,
        )
    _sizes(service, scope, places, problems)


def _sizes(service: Service, scope: Scope, places: Places, problems: Problems) -> None:
    resources = service.resources
    if resources is None:
        return
    key = ("services", service.name, "resources", scope.environment_name)
    asked = machine_sizes.refusal(resources)
    given = machine_sizes.refusal(resources.effective)
    if given and resources.deployed_as is not None:
        places.note(problems, (*key, "deployed_as"), given)
    elif given:
        places.note(
            problems,
            (*key, "memory"),
            f"{given}; record what is deployed instead as deployed_as: {{memory: ...}}",
        )
    elif not asked and resources.deployed_as is not None:
        places.note(
            problems,
            (*key, "deployed_as"),
            "deployed_as is not needed: Fly.io gives the size that was asked for",
            severity=Severity.WARNING,
        )
    if service.machines is not None:
        suspended = machine_sizes.suspend_refusal(resources.effective, service.machines)
        if suspended:
            places.note(problems, key, suspended)
