"""What a server's monitoring port says of itself, and what it means: limits, readiness, cut clients."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

import msgspec

from checks.finding import Measure, State
from checks.limits import chosen
from checks.nats.thresholds import Thresholds
from checks.problem import Problem, over
from checks.reason import Reason
from checks.units import Duration

_NO_DATE: Final = "0001-01-01"


class JetStreamConfig(msgspec.Struct, frozen=True, kw_only=True):
    max_memory: int = 0
    max_storage: int = 0
    store_dir: str = ""


class JetStreamStats(msgspec.Struct, frozen=True, kw_only=True):
    memory: int = 0
    storage: int = 0


class JetStreamVarz(msgspec.Struct, frozen=True, kw_only=True):
    config: JetStreamConfig | None = None
    stats: JetStreamStats | None = None


class Varz(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of /varz that are judged or recorded."""

    server_id: str = ""
    server_name: str = ""
    version: str = ""
    start: str = ""
    connections: int = 0
    max_connections: int = 0
    slow_consumers: int = 0
    stale_connections: int = 0
    subscriptions: int = 0
    in_msgs: int = 0
    out_msgs: int = 0
    in_bytes: int = 0
    out_bytes: int = 0
    mem: int = 0
    cpu: float = 0.0
    cores: int = 1
    config_digest: str = ""
    tls_cert_not_after: str = ""
    jetstream: JetStreamVarz = JetStreamVarz()

    @property
    def has_jetstream(self) -> bool:
        return self.jetstream.config is not None


class Closed(msgspec.Struct, frozen=True, kw_only=True):
    """One closed connection of /connz."""

    cid: int = 0
    name: str = ""
    ip: str = ""
    account: str = ""
    authorized_user: str = ""
    reason: str = ""

    @property
    def who(self) -> str:
        return self.name or self.authorized_user or f"{self.ip} (cid {self.cid})"


class Connz(msgspec.Struct, frozen=True, kw_only=True):
    connections: tuple[Closed, ...] = ()


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """One reading of one server's monitoring port. `ready` is /healthz; None: not read."""

    varz: Varz
    at_s: float
    wall_s: float = 0.0
    ready: bool | None = None
    ready_text: str = ""
    closed: tuple[Closed, ...] = ()


def judge(now: Server, before: Server | None, limits: Thresholds, *, shown: str) -> tuple[Problem, ...]:
    """Every problem one server shows of itself. `before` is its previous reading."""
    return (
        *_connections(now.varz, limits, shown),
        *_cut_clients(now, before, limits, shown),
        *_restart(now.varz, before, shown),
        *_certificate(now, limits, shown),
    )


def _connections(varz: Varz, limits: Thresholds, shown: str) -> tuple[Problem, ...]:
    most = varz.max_connections
    if most <= 0:
        return ()
    if varz.connections >= most:
        words = (
            f"{shown} takes no further client: {varz.connections} of {most}; find the leak or raise the limit"
        )
        return (Problem(state=State.DOWN, reason=Reason.NATS_MAX_CONNECTIONS, message=words, urgent=True),)
    return over(
        chosen(limits.connections),
        varz.connections / most,
        Reason.NATS_CONNECTIONS_HIGH,
        lambda at: (
            f"{shown} has {varz.connections} of {most} connections taken "
            f"({varz.connections / most:.0%}, limit {at:.0%})"
        ),
    )


def _cut_clients(now: Server, before: Server | None, limits: Thresholds, shown: str) -> Iterator[Problem]:
    if before is None or before.varz.server_id != now.varz.server_id or now.at_s <= before.at_s:
        return
    minutes = (now.at_s - before.at_s) / 60
    cut = now.varz.slow_consumers - before.varz.slow_consumers
    if cut > 0:
        names = [one.who for one in now.closed if one.reason.startswith("Slow Consumer")]
        who = ", ".join(dict.fromkeys(names[:cut])) or "names unknown without the list of closed connections"
        yield from over(
            chosen(limits.slow_consumers_per_minute),
            max(cut / max(minutes, 1.0), 1.0),
            Reason.NATS_SLOW_CONSUMER,
            lambda at: f"{shown} cut {cut} slow consumers since the last look (limit {at:g} a minute): {who}",
        )
    stale = now.varz.stale_connections - before.varz.stale_connections
    yield from over(
        chosen(limits.stale_per_minute),
        stale / max(minutes, 1.0),
        Reason.NATS_STALE_CONNECTIONS,
        lambda at: f"{stale} connections to {shown} went stale since the last look (limit {at:g} a minute)",
    )


def _certificate(now: Server, limits: Thresholds, shown: str) -> Iterator[Problem]:
    """The certificate the server itself serves; an unset date reads as the year 1."""
    text = now.varz.tls_cert_not_after
    limit = chosen(limits.certificate_left)
    if not text or text.startswith(_NO_DATE) or limit is None:
        return
    try:
        left_s = datetime.fromisoformat(text).timestamp() - now.wall_s
    except ValueError:
        return
    reached = next((at for at in (limit.critical, limit.warn) if at is not None and left_s <= at), None)
    if reached is None:
        return
    words = (
        f"the certificate of {shown} ends in {left_s / 86400:.0f} days (limit {Duration(reached)}): renew it"
    )
    urgent = reached == limit.critical
    yield Problem(state=State.DEGRADED, reason=Reason.TLS_EXPIRING, message=words, urgent=urgent)


def _restart(varz: Varz, before: Server | None, shown: str) -> Iterator[Problem]:
    if before is not None and before.varz.server_id not in ("", varz.server_id):
        words = f"{shown} restarted since the last look (now {varz.version}, up since {varz.start})"
        yield Problem(state=State.UP, reason=Reason.NATS_RESTARTED, message=words)


def measures(server: Server, name: str) -> tuple[Measure, ...]:
    """The numbers of one server, labelled by its name."""
    varz = server.varz
    plain: dict[str, float] = {
        "gaia_nats_connections": varz.connections,
        "gaia_nats_subscriptions": varz.subscriptions,
        "gaia_nats_slow_consumers_total": varz.slow_consumers,
        "gaia_nats_stale_connections_total": varz.stale_connections,
        "gaia_nats_in_messages_total": varz.in_msgs,
        "gaia_nats_out_messages_total": varz.out_msgs,
        "gaia_nats_in_bytes_total": varz.in_bytes,
        "gaia_nats_out_bytes_total": varz.out_bytes,
        "gaia_nats_memory_bytes": varz.mem,
        "gaia_nats_cpu_ratio": varz.cpu / 100 / max(varz.cores, 1),
    }
    if varz.max_connections > 0:
        plain["gaia_nats_connections_limit"] = varz.max_connections
    if server.ready is not None:
        plain["gaia_nats_ready"] = float(server.ready)
    if varz.jetstream.stats is not None:
        plain["gaia_nats_jetstream_storage_bytes"] = varz.jetstream.stats.storage
        plain["gaia_nats_jetstream_memory_bytes"] = varz.jetstream.stats.memory
    if varz.jetstream.config is not None:
        plain["gaia_nats_jetstream_storage_limit_bytes"] = varz.jetstream.config.max_storage
    labels = (("server", name),)
    return tuple(Measure(name=key, value=float(value), labels=labels) for key, value in plain.items())
