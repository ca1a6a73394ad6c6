"""A process that tells of a fault and its end, and dies at the step it is told to. Run by test_crash.py."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from msgspec.structs import replace

from alerts.batch import Batch, OutboxRow
from alerts.channel import channels
from alerts.dispatcher import Dispatcher
from alerts.journal import Journal
from alerts.notice import NoticeKind
from alerts.receiver import Receiver, Webhook
from checks.secret import Secret
from checks.units import Duration
from tests.alerts.world import World, plan
from tests.waiting import until


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class FragileJournal(Journal):
    """The real journal, killed before or after a write."""

    step = ""

    def _write(self, batch: Batch, now_s: float) -> tuple[OutboxRow, ...]:
        telling = any(notice.kind is NoticeKind.TRIGGER for _, _, notice in batch.outbox)
        ending = bool(batch.endings)
        instead = telling and any(name.startswith("stand_in") for name, _, _ in batch.outbox)
        if self.step == "before stand-in" and instead:
            die()
        if (self.step == "before trigger" and telling) or (self.step == "before resolve" and ending):
            die()
        rows = super()._write(batch, now_s)
        if self.step == "within stand-in" and instead:
            die()
        if (self.step == "within trigger" and telling) or (self.step == "within resolve" and ending):
            die()
        return rows

    def commit(self, batch: Batch, now_s: float) -> tuple[OutboxRow, ...]:
        telling = any(notice.kind is NoticeKind.TRIGGER for _, _, notice in batch.outbox)
        ending = bool(batch.endings)
        listeners, self._listeners = self._listeners, []
        rows = super().commit(batch, now_s)
        if (self.step == "after trigger" and telling) or (self.step == "after resolve" and ending):
            die()
        self._listeners = listeners
        for listener in listeners:
            if rows:
                listener(rows)
        return rows

    def failed(self, row: OutboxRow, *, dead: bool) -> None:
        if self.step == "before refusal":
            die()
        super().failed(row, dead=dead)
        if self.step == "after refusal":
            die()

    def sent(self, row: OutboxRow, at_s: float, *, status: int | None = None, ref: str | None = None) -> None:
        if self.step == f"sent {row.notice.kind}":
            die()
        super().sent(row, at_s, status=status, ref=ref)
        if self.step == f"noted {row.notice.kind}":
            die()


async def main(path: str, url: str, step: str, phase: str, refusing: str = "") -> None:
    well = Receiver(webhook=Webhook(url=Secret(url)), timeout=Duration(2))
    receivers = {"on_call": well}
    if refusing:
        first = Receiver(webhook=Webhook(url=Secret(refusing)), timeout=Duration(2), failover="stand_in")
        receivers = {"on_call": first, "stand_in": replace(well, severities=())}
    world = World(plan(receivers=receivers))
    journal = FragileJournal(Path(path))
    FragileJournal.step = step
    world.take_over(journal)
    dispatcher = Dispatcher(journal, channels(receivers, "production"))
    task = asyncio.create_task(dispatcher.run())
    await asyncio.sleep(0)
    world.pass_s(30)
    if phase == "fault":
        world.kill("postgres")
        await until(lambda: not journal.queued(), within_s=10)
        world.pass_s(30)
        world.heal("postgres")
    world.pass_s(60)
    await until(lambda: not journal.queued(), within_s=10)
    if phase == "after":
        assert world.states() == {}, world.states()
    task.cancel()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
