"""`gaia up`: the whole platform of gaia.yaml on this machine, watched by its agent, until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from agent.cli import defaults
from agent.local.child import LocalError
from agent.local.events import happenings
from agent.local.folder import LocalFolder
from agent.local.narration import Narration, standard_output
from agent.local.overlay import agent_environment, validate, write_overlay, write_shell_environment
from agent.local.parts import SERVICES, LocalParts, LocalPlan
from agent.local.ports import LOOPBACK, is_free
from agent.local.running import Running, forget_running, running_parts, write_running
from agent.local.service_settings import service_settings
from agent.local.supervisor import Supervisor, table
from checks.units import Duration

_OK: Final = 0
_CANNOT: Final = 3
_KILLED: Final = 130


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--env", default="production", choices=("development", "staging", "production"), help="whose policy")
    add("--config", type=Path, default=defaults.config(), metavar="FILE", help="the platform file")
    add(
        "--data",
        type=Path,
        default=Path(".gaia"),
        metavar="FOLDER",
        help="where data, logs and ports are kept",
    )
    add("--port", type=_port, default=9877, help="the agent's port: status page, API, metrics")
    add(
        "--scale",
        action="append",
        default=[],
        type=_scale,
        metavar="SERVICE=N",
        help="instances of a service",
    )
    add("--faults", action="store_true", help="arm the services' fault switches (POST /_fault)")
    add("--no-traffic", action="store_true", help="send no requests through the gateway")
    add(
        "--rate", type=float, default=5.0, metavar="N", help="requests per second of the small steady traffic"
    )
    add(
        "--restart-after",
        type=_pause,
        default=10.0,
        metavar="10s|never",
        help="when a crashed part is restarted",
    )


def run(args: argparse.Namespace) -> int:
    narration = standard_output()
    try:
        return _run(args, narration)
    except LocalError as error:
        narration.plain(f"gaia up: {error}")
    except OSError as error:
        narration.plain(f"gaia up: {error.filename or 'the system'}: {error.strerror}")
    return _CANNOT


def _run(args: argparse.Namespace, narration: Narration) -> int:
    config = args.config.absolute()
    if not config.is_file():
        raise LocalError(
            f"there is no {config}: go to the folder of your gaia.yaml, or name it with --config"
        )
    os.umask(0o077)  # What is kept of the platform is nobody else's business.
    page = f"http://{LOOPBACK}:{args.port}/"
    with LocalFolder(args.data, page=page) as folder:
        if not is_free(args.port):
            raise LocalError(
                f"port {args.port} on {LOOPBACK} is taken by another program: stop it, or choose another "
                "with --port"
            )
        plan = LocalPlan(
            environment=args.env,
            scale=dict(args.scale),
            faults=args.faults,
            restart_after_s=args.restart_after,
            config=config,
            agent_port=args.port,
        )
        rate = 0.0 if args.no_traffic else args.rate
        return asyncio.run(_Run(plan, folder, narration, rate=rate).until_stopped())


class _Run:
    """One run of the platform, from the first process to the last."""

    def __init__(self, plan: LocalPlan, folder: LocalFolder, narration: Narration, *, rate: float) -> None:
        self._plan = plan
        self._folder = folder
        self._narration = narration
        self._rate = rate
        self._supervisor = Supervisor(self)
        self._stop = asyncio.Event()

    async def until_stopped(self) -> int:
        """0 after Ctrl-C or SIGTERM. Raises LocalError when a part does not start; nothing is left behind."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        try:
            await self._unless_stopped(self._start())
            if not self._stop.is_set():
                await self._unless_stopped(self._watch())
        finally:
            if self._stop.is_set():
                self._narration.plain("stopping, what was started last first; Ctrl-C again kills at once")
            await self._supervisor.stop()
            forget_running(self._folder.path)
        self._narration.plain(f"stopped; the data stays in {_short(self._folder.path)}")
        return _OK

    def part(self, name: str, state: str, text: str) -> None:
        """Hear from the supervisor: tell it, and write down what runs now."""
        self._narration.part(name, state, text)
        self._record()

    def _record(self) -> None:
        plan = self._plan
        running = Running(
            page=f"http://{LOOPBACK}:{plan.agent_port}/",
            environment=plan.environment,
            restart_after_s=plan.restart_after_s,
            parts=running_parts(self._supervisor.parts),
        )
        try:
            write_running(self._folder.path, running)
        except OSError as error:
            # A full disk stops the drill, not the platform.
            self._narration.part("running.json", "note", f"cannot be written: {error.strerror}")

    async def _start(self) -> None:
        narration, start = self._narration, self._supervisor.start
        parts = LocalParts(self._folder, self._plan)
        for name in self._folder.moved:
            narration.part(name, "note", f"its old port is taken by another program, now {parts.ports[name]}")
        overlay = write_overlay(
            self._folder.path / "overlay.yaml", parts, self._plan, colour=narration.colour
        )
        scope = validate(overlay, parts, self._plan)
        write_shell_environment(self._folder.path / "env", overlay, parts, self._plan)
        narration.progress("starting PostgreSQL and NATS")
        await start(parts.postgres(), parts.nats())
        parts.prepare_database()
        narration.progress("starting the services")
        await start(*parts.services(partial(service_settings, scope)))
        narration.progress("starting the agent")
        await start(parts.agent(overlay, agent_environment(parts), follow=narration.follow))
        if self._rate > 0:
            await start(parts.traffic(self._rate))
        self._record()
        narration.plain(self._welcome())

    async def _watch(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._supervisor.keep())
            tasks.create_task(self._retell())

    async def _retell(self) -> None:
        async for happening in happenings(self._plan.agent_port):
            # What becomes of alerts is printed by the agent's console receiver.
            if happening.kind not in {"", "alert", "notification"}:
                self._narration.part(happening.subject, happening.state, happening.text)

    def _welcome(self) -> str:
        plan, data = self._plan, _short(self._folder.path)
        return "\n".join(
            (
                f"status page  http://{LOOPBACK}:{plan.agent_port}/    ({plan.environment} policies)",
                table(self._supervisor.parts),
                f"commands     `. {data}/env` makes the gaia commands of a shell mean this platform",
                f"logs in {data}/logs, data in {data}; times are UTC; Ctrl-C stops everything",
            )
        )

    async def _unless_stopped(self, work: Coroutine[object, object, None]) -> None:
        """Run `work` until it ends or somebody asks to stop. Raises what it raises."""
        task = asyncio.ensure_future(work)
        stop = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    def _on_signal(self) -> None:
        if not self._stop.is_set():
            self._stop.set()
            return
        self._supervisor.kill()
        forget_running(self._folder.path)
        self._folder.release()
        self._narration.plain("killed everything at once")
        os._exit(_KILLED)


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f'"{text}" is not a port: write a number from 1 to 65535')
    return int(text)


def _scale(text: str) -> tuple[str, int]:
    service, _, count = text.partition("=")
    if service not in SERVICES or not count.isdecimal() or not 1 <= int(count) <= 10:
        raise argparse.ArgumentTypeError(
            f'"{text}" is not SERVICE=N with one of {", ".join(SERVICES)} and 1 to 10'
        )
    return service, int(count)


def _pause(text: str) -> float | None:
    if text == "never":
        return None
    try:
        return float(Duration.parse(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}, or never") from error


def _short(path: Path) -> str:
    with suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
