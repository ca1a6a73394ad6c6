"""Makes the noise report of one environment, and sends it when its schedule says so, once for each time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from alerts.batch import Batch
from alerts.channel import channels
from alerts.journal import Journal
from alerts.maintenance import around
from alerts.noise import NoiseReport, Past, noise
from alerts.notice import NoticeKind
from alerts.plan import JudgePlan
from alerts.receiver import ReportSchedule
from alerts.rule import Rule

# They are read between two looks, and storms are one episode each.
_MOST: Final = 2_000


def report_of(
    journal: Journal, rules: Mapping[str, Rule], *, env: str, from_s: float, to_s: float
) -> NoiseReport:
    """The report over what the journal remembers."""
    values = {
        one.episode: one.value for one in journal.triggers(from_s, to_s) if one.kind is NoticeKind.TRIGGER
    }
    hushed: dict[str, list[float]] = {}
    for one in journal.happened("silenced", from_s, to_s):
        hushed.setdefault(one.fingerprint, []).append(one.at_s)
    past = [
        Past(
            told=told,
            value=values.get(told.episode),
            silenced=any(
                told.fired_at_s <= at_s <= (told.resolved_at_s or at_s)
                for at_s in hushed.get(told.fingerprint, ())
            ),
        )
        for told in journal.episodes_between(from_s, to_s, limit=_MOST)
    ]
    return noise(past, rules, env=env, from_s=from_s, to_s=to_s)


class Reporter:
    """Called about once a second; costs nothing until a report is due."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._next_s = 0.0

    def reload(self) -> None:
        """The schedule may have changed."""
        self._next_s = 0.0

    def tick(self, plan: JudgePlan, now_s: float) -> None:
        """Queue the report that is due. Its row is unique for its time: a restart repeats nothing."""
        schedule = plan.report
        if schedule is None or now_s < self._next_s:
            return
        due_s, self._next_s = around(schedule.cron, now_s)
        if due_s is not None:
            self.send(plan, schedule, due_s, now_s)

    def send(self, plan: JudgePlan, schedule: ReportSchedule, due_s: float, now_s: float) -> None:
        """Queue it for every channel of the receiver."""
        from alerts.noise_words import notice

        names = [one.name for one in channels(plan.receivers, plan.env) if one.receiver == schedule.receiver]
        report = report_of(self._journal, plan.rules, env=plan.env, from_s=due_s - schedule.last, to_s=due_s)
        made = notice(report, alias=plan.alias, episode=f"report:{round(due_s)}", now_s=now_s)
        self._journal.commit(Batch(outbox=[(name, 0, made) for name in names]), now_s)
