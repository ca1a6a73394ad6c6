"""What a server's monitoring port says of itself, and the numbers recorded of it."""

from __future__ import annotations

from typing import Final

import msgspec

from checks.finding import Measure

# Go's "no limit": the largest signed number.
_NO_MEMORY_LIMIT: Final = 2**62


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
    now: str = ""
    connections: int = 0
    total_connections: int = 0
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
    gomaxprocs: int = 0
    gomemlimit: int = 0
    config_digest: str = ""
    tls_cert_not_after: str = ""
    jetstream: JetStreamVarz = JetStreamVarz()

    @property
    def has_jetstream(self) -> bool:
        return self.jetstream.config is not None

    @property
    def cpu_ratio(self) -> float:
        """CPU used, of what the server may use."""
        return self.cpu / 100 / max(self.gomaxprocs or self.cores, 1)

    def memory_limit(self, machine_bytes: int | None) -> int | None:
        """The tighter of its machine's memory and its own GOMEMLIMIT; None when neither is known."""
        own = self.gomemlimit if 0 < self.gomemlimit < _NO_MEMORY_LIMIT else None
        return min((one for one in (machine_bytes, own) if one is not None), default=None)


class HealthError(msgspec.Struct, frozen=True, kw_only=True):
    """One thing /healthz?details=true complains of."""

    type: str = ""
    account: str = ""
    stream: str = ""
    consumer: str = ""
    error: str = ""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """/healthz; `errors` with its details, `error` without."""

    status: str = ""
    error: str = ""
    errors: tuple[HealthError, ...] = ()

    def words(self) -> str:
        """The first complaint, and how many more there are."""
        if not self.errors:
            return self.error
        more = f", and {len(self.errors) - 1} more" if len(self.errors) > 1 else ""
        return f"{self.errors[0].error}{more}"


class Closed(msgspec.Struct, frozen=True, kw_only=True):
    """One closed connection of /connz."""

    cid: int = 0
    name: str = ""
    ip: str = ""
    account: str = ""
    authorized_user: str = ""
    stop: str = ""
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


def measures(server: Server, name: str, *, machine_bytes: int | None = None) -> tuple[Measure, ...]:
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
        "gaia_nats_cpu_ratio": varz.cpu_ratio,
    }
    limit = varz.memory_limit(machine_bytes)
    if limit is not None:
        plain["gaia_nats_memory_limit_bytes"] = limit
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
