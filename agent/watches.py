"""From the platform file to what is looked at: every target of one environment with its check."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

import msgspec

from agent.platform.model import Broker, CheckSpec, Database, Host, Service
from agent.platform.scope import Scope
from agent.prober import Watch
from checks.catalog import ProbeKit, kind
from checks.secret import Secret
from checks.target import Kind, Target, TargetKey
from checks.units import Duration

# Where the agent itself stands; services are seen from where their users or peers stand.
HERE: Final = "agent"
_BEATS_PER_S: Final = 50
_MOST_HELD: Final = 1000
_USUAL_HEARTBEAT: Final = Duration(1)


def watches(scope: Scope, kit: ProbeKit) -> Iterator[Watch]:
    """Every target of the environment in the file's order, built one by one; nothing is opened yet."""
    heartbeat = _heartbeat(sum(len(service.vantages) for service in scope.services.values()))
    for service in scope.services.values():
        yield from _service(scope, service, kit, heartbeat)
    for database in scope.databases.values():
        yield from _component(scope, database, Kind.DATABASE, kit)
    for broker in scope.brokers.values():
        yield from _component(scope, broker, Kind.BROKER, kit)
    for host in scope.hosts.values():
        yield from _component(scope, host, Kind.HOST, kit)


def shown_address(url: str) -> str:
    """`url` as people may see it: no userinfo, no query, and for anything but HTTP only host and port."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    place = f"[{host}]" if ":" in host else host
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        port = ""
    if parts.scheme in ("http", "https"):
        return f"{parts.scheme}://{place}{port}{parts.path}"
    return f"{place}{port}" or "local"


def _heartbeat(targets: int) -> Duration:
    """How often each held connection is asked, so that all of them together cost about 50 requests a second.

    A death is noticed at once whatever this is; only a freeze waits for the next beat or look. Beyond a
    thousand targets no connection is held: file descriptors belong to the looks then.
    """
    if targets > _MOST_HELD:
        return Duration(0)
    return Duration(2.0 ** max(0, math.ceil(math.log2(max(1, targets) / _BEATS_PER_S))))


def _service(scope: Scope, service: Service, kit: ProbeKit, heartbeat: Duration) -> Iterator[Watch]:
    for vantage in service.vantages:
        options = vantage.options
        if options.heartbeat == _USUAL_HEARTBEAT:
            options = msgspec.structs.replace(options, heartbeat=heartbeat)
        yield _watch(
            _target(scope, service.name, Kind.SERVICE, "http", vantage.name, vantage.options.url),
            "http",
            options,
            service,
            kit,
        )
    yield from _extra(scope, service, Kind.SERVICE, kit)


def _component(
    scope: Scope, component: Database | Broker | Host, what: Kind, kit: ProbeKit
) -> Iterator[Watch]:
    url = "" if isinstance(component, Host) else component.url
    target = _target(scope, component.name, what, component.kind, HERE, url)
    yield _watch(target, component.kind, component.options, component, kit)
    yield from _extra(scope, component, what, kit)


def _extra(
    scope: Scope, component: Service | Database | Broker | Host, what: Kind, kit: ProbeKit
) -> Iterator[Watch]:
    for check in component.checks.values():
        address = _address_of(check)
        # What is wrong with its machines is not said of the service: rules tell the two apart by kind.
        looked_at = Kind.MACHINE if check.kind == "machines" else what
        target = _target(scope, component.name, looked_at, check.name, HERE, address)
        yield _watch(target, check.kind, check.options, component, kit, check)


def _address_of(check: CheckSpec) -> str | Secret:
    """What a further check looks at, as its options say it; else its own name."""
    options = check.options
    server, port = getattr(options, "server", None), getattr(options, "port", None)
    if server is not None and port is not None:
        return f"[{server}]:{port}" if ":" in server else f"{server}:{port}"
    address: str | Secret = getattr(options, "url", None) or getattr(options, "address", None) or check.name
    return address


def _target(scope: Scope, name: str, what: Kind, check: str, vantage: str, url: str | Secret) -> Target:
    text = url.reveal() if isinstance(url, Secret) else url
    return Target(
        key=TargetKey(env=scope.environment_name, service=name, check=check, vantage=vantage),
        kind=what,
        address=shown_address(text) if "://" in text else text or name,
    )


def _watch(
    target: Target,
    kind_name: str,
    options: msgspec.Struct,
    component: Service | Database | Broker | Host,
    kit: ProbeKit,
    check: CheckSpec | None = None,
) -> Watch:
    chosen = kind(kind_name)
    slower_than = getattr(component, "slower_than", None) if check is None else None
    return Watch(
        target=target,
        kind=kind_name,
        options=options,
        check=chosen.build(target, options, kit),
        sentinel=chosen.sentinel(target, options, kit) if chosen.sentinel is not None else None,
        taskless=chosen.taskless,
        interval_s=float((check or component).interval),
        timeout_s=float((check or component).timeout),
        slower_than_s=None if slower_than is None else float(slower_than),
        depends_on=getattr(component, "depends_on", ()),
        confirm=component.confirm,
    )
