"""Asking started machines over the private network: who answers, and what silence means after a start."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from msgspec import Struct

from checks.catalog import ProbeKit
from checks.finding import State
from checks.machines.options import MachinesOptions
from checks.machines.seen import Seen
from checks.machines.waking import Waking
from checks.problem import Problem
from checks.reason import Reason
from checks.small_get import SmallGet


class Asked(Struct, frozen=True, kw_only=True):
    """The machines that answered as they should, and what the others did instead."""

    well: frozenset[str] = frozenset()
    silent: tuple[tuple[str, str], ...] = ()


class Asker:
    """Asks every started machine of one app at once."""

    def __init__(self, options: MachinesOptions, kit: ProbeKit) -> None:
        self._options = options
        self._kit = kit

    async def ask(self, ids: Collection[str]) -> Asked:
        """Never raises OSError or TimeoutError. Without a port nobody is asked, and nobody is silent."""
        port = self._options.port
        if port is None:
            return Asked()
        ordered = sorted(ids)
        answers = await asyncio.gather(*(self._ask(id_, port) for id_ in ordered))
        pairs = tuple(zip(ordered, answers, strict=True))
        return Asked(
            well=frozenset(id_ for id_, why in pairs if why is None),
            silent=tuple((id_, why) for id_, why in pairs if why is not None),
        )

    async def _ask(self, id_: str, port: int) -> str | None:
        """Over the private network only: *.flycast and *.fly.dev go through the proxy, which wakes."""
        host = f"{id_}.vm.{self._options.app}.internal"
        get = SmallGet(f"http://{host}:{port}", self._kit.resolver, headers=(("X-Gaia-Probe", "1"),))
        try:
            async with asyncio.timeout(float(self._options.answer_within)):
                answer = await get.get(self._options.health)
        except TimeoutError:
            return f"did not answer within {self._options.answer_within}"
        except (OSError, ValueError) as error:
            return f"cannot be asked ({error})"
        return None if answer.status < 500 else f"answers with status {answer.status}"


def started_ids(seen: Seen) -> frozenset[str]:
    """The machines that are started, by the best witness there is."""
    if seen.machines is not None:
        return frozenset(machine.id for machine in seen.machines if machine.state == "started")
    return seen.names.started if seen.names is not None else frozenset()


def judge(asked: Asked, seen: Seen, waking: Waking, options: MachinesOptions) -> tuple[Problem, ...]:
    """What the silent ones mean. `seen` was read after they were asked; one that is gone since is fine."""
    still = started_ids(seen)
    silent = [(id_, why) for id_, why in asked.silent if id_ in still]
    young = {id_: age_s for id_, _ in silent if (age_s := waking.age_s(id_, seen)) is not None}
    starting = {id_ for id_, age_s in young.items() if age_s < options.start_within}
    problems = []
    if silent and not asked.well and len(starting) == len(silent):
        id_ = min(starting)
        words = (
            f"{options.app} is starting: machine {id_} was started {young[id_]:.0f} s ago and does not "
            f"answer yet (grace {options.start_within})"
        )
        problems.append(Problem(state=State.STARTING, reason=Reason.STARTING, message=words))
    for id_, why in silent:
        if id_ not in starting:
            words = f"machine {id_} of {options.app} is started and {why}: read its logs"
            problems.append(
                Problem(state=State.DEGRADED, reason=Reason.FLY_CHECKS, message=words, urgent=True)
            )
    return tuple(problems)
