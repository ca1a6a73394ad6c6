"""`/api/v1/status`, `/checks` and `/history`: what is known of the targets, now and before."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from agent.web.answers import (
    ChecksAnswer,
    DayAnswer,
    HistoryAnswer,
    PointAnswer,
    component_answer,
    environment_answer,
    failure_answer,
    status_answer,
    target_answer,
)
from agent.web.exchange import Answer, Asked, Refused, answer_json, number
from agent.web.overview import Look, overview, traffic
from agent.web.source import Source
from agent.web.verdict import sentence
from checks.finding import State
from checks.target import TargetKey

_PAGE: Final = 1000


async def status(source: Source, asked: Asked) -> Answer:
    """Verdict, environments and components, active alerts, the agent. With `fail_on` 503 instead of 200."""
    seen = await overview(source)
    agent = source.agent()
    said = sentence(seen, started_s=agent.started_s)
    environments = tuple(
        environment_answer(
            environment,
            tuple(component_answer(part, traffic(source, part)) for part in environment.components),
        )
        for environment in seen.environments
        if asked.query.get("env") in (None, environment.info.name)
    )
    failing = {State.DOWN: (State.DOWN,), State.DEGRADED: (State.DOWN, State.DEGRADED)}
    code = HTTPStatus.OK
    if (limit := asked.query.get("fail_on")) is not None:
        if limit not in failing:
            raise Refused(HTTPStatus.BAD_REQUEST, "fail_on must be down or degraded")
        if any(environment.state in failing[State(limit)] for environment in environments):
            code = HTTPStatus.SERVICE_UNAVAILABLE
    return answer_json(status_answer(seen, said, environments, agent), status=code)


async def checks(source: Source, asked: Asked) -> Answer:
    """Targets in the order of gaia.yaml, filtered by env, service, check and state, a page at a time."""
    now_s = source.now_s()
    after = int(number(asked, "after", default=0, low=0, high=10**9))
    limit = int(number(asked, "limit", default=100, low=1, high=_PAGE))
    found = []
    for row in source.board.rows():
        key, shown = row.target.key, row.shown(now_s)
        facts = {"env": key.env, "service": key.service, "check": key.check, "state": shown.state.value}
        if all(asked.query.get(name) in (None, value) for name, value in facts.items()):
            found.append(Look(row=row, shown=shown))
    page = tuple(target_answer(look) for look in found[after : after + limit])
    following = after + limit if after + limit < len(found) else None
    return answer_json(ChecksAnswer(as_of_s=now_s, total=len(found), checks=page, next=following))


async def history(source: Source, asked: Asked) -> Answer:
    """Looks since `since_s` (default: an hour ago), the newest failures, and the last 90 days."""
    key = target_key(source, asked)
    now_s = source.now_s()
    since_s = number(asked, "since_s", default=now_s - 3600, low=0, high=now_s)
    limit = int(number(asked, "limit", default=1000, low=1, high=10_000))
    looks = await source.looks(key, since_s=since_s, limit=limit)
    most = int(number(asked, "failures", default=20, low=0, high=200))
    failures = await source.failures(key, limit=most)
    days = await source.days(key, days=90)
    return answer_json(
        HistoryAnswer(
            env=key.env,
            service=key.service,
            check=key.check,
            vantage=key.vantage,
            looks=tuple(
                PointAnswer(at_s=look.at_s, state=look.state, reason=look.reason, latency_s=look.latency_s)
                for look in looks
            ),
            failures=tuple(failure_answer(failure) for failure in failures),
            days=tuple(DayAnswer(day=_date(day.day), looks=day.looks) for day in days),
        )
    )


def target_key(source: Source, asked: Asked) -> TargetKey:
    """The target that env, service, check and vantage choose; the first fitting one of several."""
    wanted = {name: asked.query.get(name) for name in ("env", "service", "check", "vantage")}
    if wanted["service"] is None:
        raise Refused(HTTPStatus.BAD_REQUEST, "name the target: env, service, and check where it has several")
    for row in source.board.rows():
        key = row.target.key
        facts = {"env": key.env, "service": key.service, "check": key.check, "vantage": key.vantage}
        if all(wanted[name] in (None, value) for name, value in facts.items()):
            return key
    raise Refused(HTTPStatus.NOT_FOUND, "no such target is watched; /api/v1/checks lists them")


def _date(day: int) -> str:
    return datetime.fromtimestamp(day * 86_400, tz=UTC).date().isoformat()
