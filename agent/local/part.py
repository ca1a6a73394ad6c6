"""One part of the local platform: how it is started, how one knows it is ready, how it is stopped."""

from __future__ import annotations

import http.client
import signal
from collections.abc import Callable

from msgspec import Struct

from agent.local.child import Child
from agent.local.ports import LOOPBACK

Spawn = Callable[[], Child]
Ready = Callable[[], bool]


class Part(Struct, kw_only=True):
    """What the supervisor keeps up. `spawn` returns at once; `is_ready` may block for a second."""

    name: str
    address: str
    spawn: Spawn
    is_ready: Ready
    stop_signal: signal.Signals = signal.SIGTERM
    stop_within_s: float = 5.0
    ready_within_s: float = 30.0
    restart_after_s: float | None = 10.0
    """None: it stays down once it ended."""
    child: Child | None = None

    def exit_code(self) -> int | None:
        """None while it runs."""
        return None if self.child is None else self.child.exit_code()


def answers(port: int, path: str) -> bool:
    """Whether a GET on this machine is answered with 200 within a second."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=1.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
