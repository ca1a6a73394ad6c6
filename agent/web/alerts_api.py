"""`/api/v1/alerts`, `/incidents`, `/silences`, `/changes` and `/config`."""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from agent.web.answers import AlertsAnswer, ChangesAnswer, IncidentsAnswer, NewChange, SilencesAnswer
from agent.web.exchange import Answer, Asked, Refused, answer_json, number
from agent.web.source import ActiveAlert, Change, Source


async def alerts(source: Source, asked: Asked) -> Answer:
    """Alerts that are not OK, filtered by env, service and state."""

    def wanted(alert: ActiveAlert) -> bool:
        facts = {"env": alert.env, "service": alert.service, "state": alert.state}
        return all(asked.query.get(name) in (None, value) for name, value in facts.items())

    found = [alert for alert in source.alerts() if wanted(alert)]
    found.sort(key=lambda alert: (alert.state == "pending", bool(alert.cause), alert.since_s))
    return answer_json(AlertsAnswer(as_of_s=source.now_s(), alerts=tuple(found)))


async def incidents(source: Source, asked: Asked) -> Answer:
    """Incidents with their story, newest first."""
    limit = int(number(asked, "limit", default=50, low=1, high=500))
    return answer_json(IncidentsAnswer(incidents=await source.incidents(limit=limit)))


async def silences(source: Source, _: Asked) -> Answer:
    """Silences, active or planned."""
    return answer_json(SilencesAnswer(silences=source.silences()))


async def changes(source: Source, _: Asked) -> Answer:
    """What was done to the platform, newest first."""
    return answer_json(ChangesAnswer(changes=source.changes()))


async def add_change(source: Source, asked: Asked) -> Answer:
    """Record a change, such as a deploy marker."""
    try:
        new = msgspec.json.decode(asked.body, type=NewChange)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(HTTPStatus.BAD_REQUEST, f"the body is no change: {error}") from error
    if new.env not in {info.name for info in source.environments}:
        raise Refused(HTTPStatus.BAD_REQUEST, f"no environment {new.env!r} is watched here")
    change = Change(
        at_s=source.now_s() if new.at_s is None else new.at_s,
        env=new.env,
        service=new.service[:100],
        kind=new.kind[:40],
        text=new.text[:500],
        author=new.author[:100],
        version=new.version[:100],
        url=new.url[:500],
    )
    await source.add_change(change)
    return answer_json(change, status=HTTPStatus.CREATED)


async def config(source: Source, _: Asked) -> Answer:
    """The effective configuration, secrets masked."""
    return Answer(body=source.config())
