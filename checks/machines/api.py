"""The Machines API's list, as far as it is judged. Source: fly.io/docs/machines/api."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from checks.small_get import SmallGet

RELEASE_GROUP: Final = "fly_app_release_command"


class ExitEvent(msgspec.Struct, frozen=True, kw_only=True):
    exit_code: int = 0
    oom_killed: bool = False
    requested_stop: bool = False
    signal: int = 0


class _Monitor(msgspec.Struct, frozen=True, kw_only=True):
    exit_event: ExitEvent | None = None


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """An event's detail; older machines nest the exit one level deeper."""

    exit_event: ExitEvent | None = None
    monitor: _Monitor | None = msgspec.field(default=None, name="MonitorEvent")
    restart_count: int = 0


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """`timestamp` in milliseconds."""

    type: str = ""
    status: str = ""
    source: str = ""
    timestamp: float = 0.0
    request: Request | None = None

    @property
    def at_s(self) -> float:
        return self.timestamp / 1000

    @property
    def exit(self) -> ExitEvent | None:
        if self.request is None:
            return None
        nested = self.request.monitor
        return self.request.exit_event or (None if nested is None else nested.exit_event)


class PlatformCheck(msgspec.Struct, frozen=True, kw_only=True):
    name: str = ""
    status: str = ""
    output: str = ""
    updated_at: str = ""


class Image(msgspec.Struct, frozen=True, kw_only=True):
    digest: str = ""


class Guest(msgspec.Struct, frozen=True, kw_only=True):
    cpu_kind: str = ""
    cpus: int = 0
    memory_mb: int = 0


class Config(msgspec.Struct, frozen=True, kw_only=True):
    guest: Guest = Guest()
    metadata: dict[str, str] | None = None


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """One machine of an app. `updated_at` is RFC 3339."""

    id: str
    name: str = ""
    state: str = ""
    region: str = ""
    private_ip: str = ""
    host_status: str = "ok"
    cordoned: bool = False
    updated_at: str = ""
    image_ref: Image = Image()
    config: Config = Config()
    events: tuple[Event, ...] | None = None
    checks: tuple[PlatformCheck, ...] | None = None

    @property
    def counts(self) -> bool:
        """Whether it is one of the app's own: release commands run in machines that come and go."""
        return (self.config.metadata or {}).get("fly_process_group") != RELEASE_GROUP

    @property
    def updated_s(self) -> float | None:
        return seconds(self.updated_at)

    def exits(self) -> tuple[tuple[float, ExitEvent], ...]:
        """When and how it ended, newest first."""
        found = [(event.at_s, event.exit) for event in self.events or ()]
        return tuple(sorted(((at, how) for at, how in found if how is not None), key=lambda one: -one[0]))


def seconds(rfc3339: str) -> float | None:
    """Unix seconds, None when it is not a time."""
    try:
        return datetime.fromisoformat(rfc3339).timestamp()
    except ValueError:
        return None


async def machines(api: SmallGet, app: str) -> tuple[Machine, ...]:
    """Raises OSError, or ValueError when the answer is no list of machines."""
    answer = await api.get(f"/v1/apps/{app}/machines")
    if answer.status in (401, 403):
        raise ValueError(f"status {answer.status}: its token is not accepted; `fly tokens create readonly`")
    if answer.status == 404:
        raise ValueError(f"status 404: there is no app {app}, or the token may not see it")
    if answer.status != 200:
        raise ValueError(f"status {answer.status}")
    return tuple(
        machine for machine in msgspec.json.decode(answer.body, type=tuple[Machine, ...]) if machine.counts
    )
