"""Where people and programs act on alerts: silences, acks, tests, explanations, Alertmanager's v2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Final, TypeVar

import msgspec

from agent.web.exchange import Answer, Asked, Handler, Refused, answer_json, number
from agent.web.routes import Route
from agent.web.source import Source
from alerts import alertmanager_api
from alerts.desk import DeliveryEntry, Desk, Explanation, deliveries, explain
from alerts.noise import NoiseReport
from alerts.reporter import report_of

T = TypeVar("T")
Desks = Callable[[], Sequence[Desk]]

# An acknowledgement is a promise to look, and nobody promises for longer.
_LONGEST_ACK_S: Final = 30 * 86400.0
_LONGEST_REPORT_S: Final = 366 * 86400.0
_V2: Final = (
    ("GET", "/status"),
    ("GET", "/receivers"),
    ("GET", "/alerts"),
    ("GET", "/alerts/groups"),
    ("POST", "/alerts"),
    ("GET", "/silences"),
    ("POST", "/silences"),
    ("GET", "/silence/{id}"),
    ("DELETE", "/silence/{id}"),
)


class NewAck(msgspec.Struct, frozen=True, kw_only=True):
    """Who takes which alert (its name, fingerprint or episode) and for how long."""

    alert: str
    author: str
    lasts_s: float = 4 * 3600.0


class AckAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The episodes that were acknowledged."""

    episodes: tuple[str, ...]


class NewTest(msgspec.Struct, frozen=True, kw_only=True):
    """Which receiver to try, and who asks."""

    receiver: str
    author: str = "somebody"


class TestAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The channels the test message was queued for."""

    channels: tuple[str, ...]
    episode: str


class DeliveriesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Every notice of one episode and what became of it."""

    deliveries: tuple[DeliveryEntry, ...]


class ReportAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The noise report of each environment."""

    reports: tuple[NoiseReport, ...]


class ExplainAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Every alert that was meant, the most telling first."""

    alerts: tuple[Explanation, ...]


def desk_routes(desks: Desks) -> tuple[Route, ...]:
    """Routes over the judgements of this process."""
    v2 = tuple(
        Route(
            path=f"{alertmanager_api.PREFIX}{path}",
            method=method,
            handler=_v2(desks, method),
            writes=method != "GET",
        )
        for method, path in _V2
    )
    return (
        *v2,
        Route(path="/api/v1/report", handler=_report(desks), answer=ReportAnswer, query=("env", "last_s")),
        Route(path="/api/v1/explain", handler=_explain(desks), answer=ExplainAnswer, query=("alert",)),
        Route(
            path="/api/v1/acks",
            method="POST",
            handler=_ack(desks),
            writes=True,
            answer=AckAnswer,
            body=NewAck,
        ),
        Route(
            path="/api/v1/deliveries",
            handler=_deliveries(desks),
            answer=DeliveriesAnswer,
            query=("episode",),
        ),
        Route(
            path="/api/v1/notify/test",
            method="POST",
            handler=_test(desks),
            writes=True,
            answer=TestAnswer,
            body=NewTest,
        ),
    )


def _v2(desks: Desks, method: str) -> Handler:
    async def handle(source: Source, asked: Asked) -> Answer:
        response = alertmanager_api.respond(
            desks(),
            method,
            asked.path,
            query=asked.every,
            body=asked.body,
            now_s=source.now_s(),
        )
        return Answer(body=response.body, status=response.status)

    return handle


def _explain(desks: Desks) -> Handler:
    async def handle(source: Source, asked: Asked) -> Answer:
        name = asked.query.get("alert", "")
        found = [one for desk in desks() for one in explain(desk, name, source.now_s())]
        if not found:
            raise Refused(HTTPStatus.NOT_FOUND, f'there is no alert, service or episode called "{name}"')
        return answer_json(ExplainAnswer(alerts=tuple(found[:50])))

    return handle


def _report(desks: Desks) -> Handler:
    async def handle(source: Source, asked: Asked) -> Answer:
        """Which rules called whom, who acted on it, and what a threshold would have spared."""
        last_s = number(asked, "last_s", default=7 * 86400.0, low=60.0, high=_LONGEST_REPORT_S)
        env = asked.query.get("env")
        now_s = source.now_s()
        reports = tuple(
            report_of(desk.journal, desk.judge.plan.rules, env=desk.env, from_s=now_s - last_s, to_s=now_s)
            for desk in desks()
            if env in (None, desk.env, desk.judge.plan.alias)
        )
        if not reports:
            raise Refused(HTTPStatus.NOT_FOUND, f'no environment "{env}" is judged here')
        return answer_json(ReportAnswer(reports=reports))

    return handle


def _deliveries(desks: Desks) -> Handler:
    async def handle(_: Source, asked: Asked) -> Answer:
        episode = asked.query.get("episode", "")
        rows = tuple(row for desk in desks() for row in deliveries(desk, episode))
        return answer_json(DeliveriesAnswer(deliveries=rows))

    return handle


def _ack(desks: Desks) -> Handler:
    async def handle(source: Source, asked: Asked) -> Answer:
        new = _decoded(asked.body, NewAck)
        if not new.author.strip():
            raise Refused(HTTPStatus.BAD_REQUEST, "say who takes it: author is empty")
        if not 0 < new.lasts_s <= _LONGEST_ACK_S:
            raise Refused(HTTPStatus.BAD_REQUEST, "take it for longer than no time, and for a month at most")
        episodes = tuple(
            episode
            for desk in desks()
            for episode in desk.judge.ack(new.alert, new.author, source.now_s(), lasts_s=new.lasts_s)
        )
        if not episodes:
            raise Refused(
                HTTPStatus.NOT_FOUND, f'nobody was called for "{new.alert}", so there is nothing to take'
            )
        return answer_json(AckAnswer(episodes=episodes))

    return handle


def _test(desks: Desks) -> Handler:
    async def handle(_: Source, asked: Asked) -> Answer:
        new = _decoded(asked.body, NewTest)
        tested = [desk.test(new.receiver, new.author) for desk in desks()]
        episode = next((test.episode for test in tested if test.channels), "")
        if not episode:
            known = ", ".join(dict.fromkeys(name for desk in desks() for name in desk.judge.plan.receivers))
            raise Refused(
                HTTPStatus.NOT_FOUND,
                f'no receiver "{new.receiver}" is in use here; there are: {known or "none"}',
            )
        channels = tuple(name for test in tested for name in test.channels)
        return answer_json(TestAnswer(channels=channels, episode=episode))

    return handle


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(HTTPStatus.BAD_REQUEST, f"the body is not what is asked for here: {error}") from error
