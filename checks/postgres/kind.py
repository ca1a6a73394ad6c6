"""The kind `postgres`: how it is written, built and what it measures."""

from __future__ import annotations

from typing import Final
from weakref import WeakValueDictionary

from checks.catalog import CheckKind, ProbeKit
from checks.postgres.check import PostgresCheck
from checks.postgres.measures import MEASURES
from checks.postgres.options import PostgresOptions
from checks.postgres.sentinel import PostgresSentinel
from checks.postgres.session import Session
from checks.target import Target, TargetKey

# A check and its sentinel are built apart and must share one connection (the budget is two per server).
# Entries live as long as one of the two does.
_sessions: Final[WeakValueDictionary[tuple[int, TargetKey, PostgresOptions], Session]] = WeakValueDictionary()


def _session(target: Target, options: PostgresOptions, kit: ProbeKit) -> Session:
    key = (id(kit), target.key, options)
    session = _sessions.get(key)
    if session is None:
        session = _sessions[key] = Session(options.place(), kit.resolver)
    return session


def _build(target: Target, options: PostgresOptions, kit: ProbeKit) -> PostgresCheck:
    return PostgresCheck(target, options, kit, _session(target, options, kit))


def _sentinel(target: Target, options: PostgresOptions, kit: ProbeKit) -> PostgresSentinel:
    return PostgresSentinel(_session(target, options, kit), heartbeat=options.heartbeat)


KIND: Final = CheckKind(
    name="postgres", options=PostgresOptions, build=_build, measures=MEASURES, sentinel=_sentinel
)
