"""The parts of the local platform, built from the folder's ports and passwords."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Final

from msgspec import Struct

from agent.local.child import Child
from agent.local.folder import LocalFolder
from agent.local.nats import LocalNats
from agent.local.part import Part, Ready, Spawn, answers
from agent.local.ports import LOOPBACK
from agent.local.postgres import LocalPostgres
from agent.local.traffic import PASSWORD_VARIABLE

SERVICES: Final = ("auth", "asset", "chat", "gateway")
"""In the order they are started; the gateway routes to the others."""

# Not from the current folder: a user's own `services/` there must not be taken for ours.
_PYTHON: Final = (sys.executable, "-P", "-m")
_HOUSE: Final = str(Path(__file__).resolve().parents[2])
_ALIASES: Final = {"development": "dev", "staging": "staging", "production": "prod"}
_PASSED_ON: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV")
_MODEL_KEYS: Final = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY")
_SERVICE_USER: Final = "gaia"
_AGENT_USER: Final = "gaia_agent"


class LocalPlan(Struct, frozen=True, kw_only=True):
    """What to run: `scale` is the number of instances per service, `faults` arms their fault switches."""

    environment: str
    scale: Mapping[str, int]
    faults: bool
    restart_after_s: float | None
    config: Path
    agent_port: int


class LocalParts:
    """Builds each part; the ports are those the folder remembers."""

    def __init__(self, folder: LocalFolder, plan: LocalPlan) -> None:
        self._folder = folder
        self._plan = plan
        self.instances = {
            service: tuple(_instance(service, number) for number in range(1, plan.scale.get(service, 1) + 1))
            for service in SERVICES
        }
        names = ("postgres", "nats", "nats_monitor", "otlp")
        services = tuple(name for instances in self.instances.values() for name in instances)
        self.ports = folder.ports((*names, *services))
        self._postgres = LocalPostgres(
            folder.path / "postgres",
            port=self.ports["postgres"],
            password=folder.secret("postgres"),
            durable=True,
            log=folder.log("postgres"),
        )
        self._nats = LocalNats(
            folder.path / "nats",
            port=self.ports["nats"],
            monitor_port=self.ports["nats_monitor"],
            users={user: folder.secret(f"nats_{user}") for user in (_SERVICE_USER, _AGENT_USER)},
            log=folder.log("nats"),
        )

    @property
    def database(self) -> str:
        """The environment's database, named as on Fly with underscores: `gaia_db_prod`."""
        return f"gaia_db_{_ALIASES[self._plan.environment]}"

    @property
    def agent_database_url(self) -> str:
        return self._database_url(_AGENT_USER)

    @property
    def agent_nats_url(self) -> str:
        return self._nats.url_of(_AGENT_USER)

    @property
    def agent_token(self) -> str:
        """What may write to the agent's API: silences, acknowledgements, test messages."""
        return self._folder.secret("agent_token")

    @property
    def monitor_url(self) -> str:
        return self._nats.monitor_url

    @property
    def otlp_url(self) -> str:
        return f"http://{LOOPBACK}:{self.ports['otlp']}"

    def urls(self, service: str) -> tuple[str, ...]:
        """Where each instance of a service listens."""
        return tuple(f"http://{LOOPBACK}:{self.ports[name]}" for name in self.instances[service])

    def logs(self, service: str) -> tuple[str, ...]:
        """Where each instance of a service writes its log."""
        return tuple(str(self._folder.log(name)) for name in self.instances[service])

    def postgres(self) -> Part:
        server = self._postgres

        def spawn() -> Child:
            server.spawn()
            return server.child

        return self._part("postgres", server.port, spawn=spawn, is_ready=server.is_ready, interrupt=True)

    def nats(self) -> Part:
        server = self._nats

        def spawn() -> Child:
            server.spawn()
            return server.child

        return self._part("nats", server.port, spawn=spawn, is_ready=server.is_ready)

    def prepare_database(self) -> None:
        """The database, its owner for the services and a read-only role for the agent; safe to repeat."""
        # psql takes no parameters here; every word is a constant of ours or made of URL-safe letters.
        roles = "".join(
            f"SELECT 'CREATE ROLE {user} LOGIN' WHERE NOT EXISTS "  # noqa: S608  # As said above.
            f"(SELECT FROM pg_roles WHERE rolname = '{user}') \\gexec\n"
            f"ALTER ROLE {user} PASSWORD '{self._folder.secret(f'postgres_{user}')}';\n"
            for user in (_SERVICE_USER, _AGENT_USER)
        )
        self.run_sql(
            f"{roles}GRANT pg_monitor TO {_AGENT_USER};\nALTER ROLE {_AGENT_USER} CONNECTION LIMIT 8;\n"
            f"SELECT 'CREATE DATABASE {self.database} OWNER {_SERVICE_USER}' WHERE NOT EXISTS "
            f"(SELECT FROM pg_database WHERE datname = '{self.database}') \\gexec\n"
        )

    def run_sql(self, sql: str) -> str:
        """Statements as the superuser; the rows as text."""
        return self._postgres.run_sql(sql)

    def services(self, settings: Callable[[str], Mapping[str, str]]) -> Iterable[Part]:
        """One part per instance; `settings` of a service are variables that name no place on this machine."""
        for service, names in self.instances.items():
            for name in names:
                yield self._service(service, name, settings(service))

    def agent(
        self, overlay: Path, environ: Mapping[str, str], *, follow: Callable[[IO[bytes]], None]
    ) -> Part:
        """The agent, started again at once, for nobody watches meanwhile; `follow` gets its output."""
        plan = self._plan
        command = [*_PYTHON, "agent.cli", "run", "--env", plan.environment]
        command += ["--config", str(plan.config), "--overlay", str(overlay)]
        port = plan.agent_port

        def spawn() -> Child:
            child = Child(
                command,
                log=self._folder.log("agent"),
                environ={**os.environ, **environ, "PYTHONPATH": _python_path()},
                piped=True,
            )
            assert child.stdout is not None
            follow(child.stdout)
            return child

        part = self._part("agent", port, spawn=spawn, is_ready=lambda: answers(port, "/livez"))
        part.restart_after_s = 0.0
        return part

    def traffic(self, rate: float) -> Part:
        """A few real requests a second through the gateway."""
        url = self.urls("gateway")[0]
        command = [*_PYTHON, "agent.local.traffic", "--rate", f"{rate:g}", url]
        # Not in the arguments: ps shows those to everybody.
        environ = _plain_environment() | {PASSWORD_VARIABLE: self._folder.secret("traffic")}
        spawn = partial(Child, command, log=self._folder.log("traffic"), environ=environ)
        part = self._part("traffic", 0, spawn=spawn, is_ready=lambda: True)
        part.address = f"{rate:g} requests/s through the gateway"
        return part

    def _service(self, service: str, name: str, settings: Mapping[str, str]) -> Part:
        port = self.ports[name]
        command = [*_PYTHON, f"services.{service}"]
        environ = {**settings, **self._service_environment(port)}
        spawn = partial(Child, command, log=self._folder.log(name), environ=environ)
        return self._part(name, port, spawn=spawn, is_ready=lambda: answers(port, "/readyz"))

    def _service_environment(self, port: int) -> dict[str, str]:
        plan = self._plan
        storage = self._folder.path / "assets"
        storage.mkdir(exist_ok=True, mode=0o700)
        environ = _plain_environment() | {
            "HOST": LOOPBACK,
            "PORT": str(port),
            # The services refuse fault switches in production; the agent judges as asked all the same.
            "ENVIRONMENT": "staging"
            if plan.faults and plan.environment == "production"
            else plan.environment,
            "DATABASE_URL": self._database_url(_SERVICE_USER),
            "NATS_URL": self._nats.url_of(_SERVICE_USER),
            "API_KEY": self._folder.secret("api_key"),
            "ASSET_STORAGE": str(storage),
            # There is no key here: the answer without a model is what was asked for, not a degradation.
            "CHAT_PROVIDER": "offline",
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.otlp_url,
        }
        environ |= {
            f"{each.upper()}_URL": ",".join(self.urls(each)) for each in SERVICES if each != "gateway"
        }
        models = {name: os.environ[name] for name in _MODEL_KEYS if os.environ.get(name)}
        environ |= models or {"CHAT_PROVIDER": "offline"}
        return environ | ({"GAIA_FAULTS": "1"} if plan.faults else {})

    def _database_url(self, user: str) -> str:
        password = self._folder.secret(f"postgres_{user}")
        return self._postgres.url_of(database=self.database, user=user, password=password)

    def _part(self, name: str, port: int, *, spawn: Spawn, is_ready: Ready, interrupt: bool = False) -> Part:
        return Part(
            name=name,
            address=f"{LOOPBACK}:{port}",
            spawn=spawn,
            is_ready=is_ready,
            stop_signal=signal.SIGINT if interrupt else signal.SIGTERM,
            restart_after_s=self._plan.restart_after_s,
        )


def _instance(service: str, number: int) -> str:
    return service if number == 1 else f"{service}-{number}"


def _plain_environment() -> dict[str, str]:
    """What a process needs to run, and nothing of the user's secrets or Fly settings."""
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return kept | {"PYTHONPATH": _python_path(), "PYTHONUNBUFFERED": "1"}


def _python_path() -> str:
    return os.pathsep.join(filter(None, (_HOUSE, os.environ.get("PYTHONPATH"))))
