"""The standbys a primary names, each looked at on its own: let in, in recovery, and how far behind."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from checks.catalog import Resolver
from checks.clock import Clock
from checks.finding import Evidence, Measure, State
from checks.postgres import depth, faults
from checks.postgres.depth import Depth, Standby
from checks.postgres.knock import Knocker
from checks.postgres.place import Place, TlsMode
from checks.postgres.session import QueryRefusedError, Session
from checks.problem import Problem
from checks.reason import Reason

_MOST: Final = 8
_ROLE: Final = """
SELECT json_build_object('in_recovery', pg_is_in_recovery(),
                         'version', current_setting('server_version_num')::int,
                         'started_s', extract(epoch FROM pg_postmaster_start_time()))::text"""


class _Role(msgspec.Struct, frozen=True, kw_only=True):
    in_recovery: bool
    version: int
    started_s: float


class Replica(Struct, frozen=True, kw_only=True):
    """What one standby said. `depth` None: it did not let the agent in, and `why` says so."""

    shown: str
    depth: Depth | None = None
    is_primary: bool = False
    started_s: float = 0.0
    why: str = ""


async def look(
    standbys: tuple[Standby, ...],
    primary: Place,
    resolver: Resolver,
    clock: Clock,
    *,
    port: int | None,
    within_s: float,
) -> tuple[Replica, ...]:
    """Each standby with an address, at most eight, under the primary's user; nothing is held afterwards."""
    addresses = dict.fromkeys(standby.address for standby in standbys if standby.address)
    # A certificate names hosts, and here only addresses are known.
    tls: TlsMode = "require" if primary.tls.startswith("verify") else primary.tls
    places = [replace(primary, host=address, port=port or primary.port, tls=tls) for address in addresses]
    return tuple(await asyncio.gather(*(_look(place, resolver, clock, within_s) for place in places[:_MOST])))


async def _look(place: Place, resolver: Resolver, clock: Clock, within_s: float) -> Replica:
    knock = await Knocker(place, resolver, clock).knock(answer_within_s=within_s)
    fault = faults.from_knock(knock, place, answer_within_s=within_s)
    if fault is not None:
        return Replica(shown=place.shown, why=fault.message)
    session = Session(place, resolver)
    try:
        await session.ensure_open(speaks_tls=bool(knock.speaks_tls), within_s=within_s)
        text = await session.text(_ROLE, within_s=within_s)
        role = msgspec.json.decode(text or "{}", type=_Role)
        sql = depth.sql(version=role.version, in_recovery=role.in_recovery)
        text = await session.text(sql, within_s=within_s)
        return Replica(
            shown=place.shown,
            depth=msgspec.json.decode(text or "{}", type=Depth),
            is_primary=not role.in_recovery,
            started_s=role.started_s,
        )
    except QueryRefusedError as refused:
        return Replica(shown=place.shown, why=faults.from_server_error(refused.error, place).message)
    except TimeoutError:
        return Replica(shown=place.shown, why=f"{place.shown} did not answer in time")
    except OSError as error:
        return Replica(shown=place.shown, why=faults.from_os_error(error, place).message)
    finally:
        await session.close()


def judge(
    replica: Replica, primary: str, *, started_s: float
) -> tuple[tuple[Problem, ...], tuple[Measure, ...], tuple[Evidence, ...]]:
    """Problems, numbers and evidence. One that does not let us in may only be out of our reach.

    `started_s`: the primary's own start, by which an address that leads back to it is known.
    """
    if replica.is_primary and replica.started_s == started_s:
        words = f"{replica.shown} leads back to the primary: set replica_port to the standby's own"
        return (), (), (Evidence(name="unknown: replica", value=words),)
    labels = (("replica", replica.shown),)
    up = (Measure(name="gaia_postgres_replica_up", value=float(replica.depth is not None), labels=labels),)
    if replica.depth is None:
        return (), up, (Evidence(name="unknown: replica", value=replica.why),)
    if replica.is_primary:
        words = (
            f"{replica.shown} takes writes beside {primary}: two primaries; fence one before data diverges"
        )
        problem = Problem(state=State.DEGRADED, reason=Reason.PG_FAILOVER, message=words, urgent=True)
        return (problem,), up, ()
    seen = replica.depth
    if seen.receivers == 0:
        words = (
            f"standby {replica.shown} receives nothing: what it answers gets older; check primary_conninfo"
        )
        problem = Problem(state=State.DEGRADED, reason=Reason.PG_REPLICA_DISCONNECTED, message=words)
        return (problem,), up, ()
    lag = () if seen.apply_bytes is None else (_lag(seen.apply_bytes, labels),)
    return (), up + lag, ()


def _lag(apply_bytes: float, labels: tuple[tuple[str, str], ...]) -> Measure:
    return Measure(name="gaia_postgres_replica_apply_bytes", value=apply_bytes, labels=labels)
