"""The kind `postgres`: how it is written, built and what it measures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from checks.catalog import CheckKind, ProbeKit
from checks.postgres.measures import MEASURES
from checks.postgres.options import PostgresOptions
from checks.target import Target, TargetKey

if TYPE_CHECKING:
    from checks.postgres.check import PostgresCheck
    from checks.postgres.sentinel import PostgresSentinel
    from checks.postgres.server import Server

# The two are built apart. Entries live as long as one of them does.
_servers: Final[WeakValueDictionary[tuple[int, TargetKey, PostgresOptions], Server]] = WeakValueDictionary()


def _server(target: Target, options: PostgresOptions, kit: ProbeKit) -> Server:
    key = (id(kit), target.key, options)
    server = _servers.get(key)
    if server is None:
        from checks.postgres.knock import Knocker
        from checks.postgres.server import Server
        from checks.postgres.session import Session

        place = options.place()
        session, knocker = Session(place, kit.resolver), Knocker(place, kit.resolver, kit.clock)
        server = _servers[key] = Server(session=session, knocker=knocker)
    return server


def _build(target: Target, options: PostgresOptions, kit: ProbeKit) -> PostgresCheck:
    from checks.postgres.check import PostgresCheck

    return PostgresCheck(target, options, kit, server=_server(target, options, kit))


def _sentinel(target: Target, options: PostgresOptions, kit: ProbeKit) -> PostgresSentinel:
    from checks.postgres.sentinel import PostgresSentinel

    server = _server(target, options, kit)
    return PostgresSentinel(server, heartbeat=options.heartbeat, holds=options.hold)


KIND: Final = CheckKind(
    name="postgres",
    options=PostgresOptions,
    build=_build,
    measures=MEASURES,
    sentinel=_sentinel,
    needs=("checks.postgres.check", "checks.postgres.sentinel"),
)
