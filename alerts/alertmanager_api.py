"""The part of Alertmanager's v2 API that amtool, Grafana, karma and Prometheus use: pure request and answer.

A Prometheus that sends here gets the outbox, the causes and the episodes; writes need a token, which the
server checks. Source: https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec
from msgspec import Struct

from alerts.desk import Desk
from alerts.external import ExternalAlert
from alerts.machine import Phase
from alerts.notifiers.webhook import rfc3339
from alerts.silence import Matcher, Silence, matcher, parse_matchers
from alerts.view import AlertView

PREFIX: Final = "/api/v2"
_ENDS_AFTER_S: Final = 300.0
_ACK: Final = "ACK!"
_MAX_ALERTS: Final = 5000
_MAX_LABELS: Final = 64
_VERSION_PARTS: Final = ("branch", "buildDate", "buildUser", "goVersion", "revision")
_UNKNOWN_START_S: Final = -62135596800.0


class Response(Struct, frozen=True, kw_only=True):
    """An answer; `body` is JSON."""

    status: int = 200
    body: bytes = b""


class _PostedAlert(msgspec.Struct, rename="camel"):
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    starts_at: str = ""
    ends_at: str = ""
    generator_url: str = msgspec.field(default="", name="generatorURL")


class _PostedSilence(msgspec.Struct, rename="camel"):
    """As Alertmanager takes it; the last two are ours, and others' programs leave them out."""

    matchers: list[Matcher]
    starts_at: str
    ends_at: str
    created_by: str
    comment: str
    id: str = ""
    covers_dependents: bool = False
    expire_on_resolve: bool = False


class _BadRequest(Exception):  # noqa: N818  # it is an answer
    pass


def respond(
    desks: Sequence[Desk],
    method: str,
    path: str,
    *,
    query: Mapping[str, Sequence[str]],
    body: bytes,
    now_s: float,
) -> Response:
    """Answer one request below /api/v2. A repeated query parameter has several values."""
    parts = tuple(path.removeprefix(PREFIX).strip("/").split("/"))
    try:
        match (method, *parts):
            case ("GET", "status"):
                return _json(_status(desks, now_s))
            case ("GET", "receivers"):
                return _json([{"name": name} for name in _receivers(desks)])
            case ("GET", "alerts"):
                return _json(_alerts(desks, query, now_s))
            case ("GET", "alerts", "groups"):
                return _json(_groups(desks, query, now_s))
            case ("POST", "alerts"):
                return _take(desks, body, now_s)
            case ("GET", "silences"):
                return _json(_silences(desks, query, now_s))
            case ("POST", "silences"):
                return _silence(desks, body, now_s)
            case ("GET", "silence", identity):
                return _one_silence(desks, identity, now_s)
            case ("DELETE", "silence", identity):
                ended = [desk.judge.expire(identity, now_s) for desk in desks]
                return Response() if any(ended) else _missing(identity)
    except (_BadRequest, ValueError, msgspec.MsgspecError) as error:
        return Response(status=400, body=msgspec.json.encode(str(error)))
    return Response(status=404, body=msgspec.json.encode(f"{method} {path} is not part of this API"))


def _json(value: object) -> Response:
    return Response(body=msgspec.json.encode(value))


def _missing(identity: str) -> Response:
    return Response(status=404, body=msgspec.json.encode(f"no silence {identity} is in force"))


def _status(desks: Sequence[Desk], now_s: float) -> dict[str, object]:
    return {
        "cluster": {"name": "gaia", "status": "disabled", "peers": []},
        "versionInfo": dict.fromkeys(_VERSION_PARTS, "") | {"version": "gaia"},
        "config": {"original": _config(desks)},
        "uptime": rfc3339(now_s),
    }


def _config(desks: Sequence[Desk]) -> str:
    """Our receivers as an Alertmanager's file (JSON is YAML), so that amtool can show it."""
    names = _receivers(desks) or ("nobody",)
    document = {"route": {"receiver": names[0]}, "receivers": [{"name": name} for name in names]}
    return "# made by gaia from gaia.yaml, which is what counts\n" + msgspec.json.encode(document).decode()


def _receivers(desks: Sequence[Desk]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for desk in desks for name in desk.judge.plan.receivers))


def _on(desks: Sequence[Desk]) -> list[AlertView]:
    return [view for desk in desks for view in desk.judge.active() if view.state is not Phase.PENDING]


def _alerts(
    desks: Sequence[Desk], query: Mapping[str, Sequence[str]], now_s: float
) -> list[dict[str, object]]:
    matchers = _filter(query)
    shown = [view for view in _on(desks) if all(one.matches(view.labels) for one in matchers)]
    wanted: tuple[tuple[str, Callable[[AlertView], bool]], ...] = (
        ("active", lambda view: not _suppressed(view)),
        ("silenced", lambda view: bool(view.silenced_by)),
        ("inhibited", lambda view: bool(view.inhibited_by)),
    )
    if "receiver" in query:
        receiver = matcher("receiver", query["receiver"][0], is_regex=True)
        shown = [view for view in shown if any(receiver.matches({"receiver": name}) for name in _told(view))]
    for name, has in wanted:
        if query.get(name, ["true"])[0] == "false":
            shown = [view for view in shown if not has(view)]
    return [_gettable(view, now_s) for view in shown]


def _told(view: AlertView) -> tuple[str, ...]:
    return tuple(dict.fromkeys(channel.partition("/")[0] for channel in view.told))


def _suppressed(view: AlertView) -> bool:
    return bool(view.silenced_by or view.inhibited_by)


def _gettable(view: AlertView, now_s: float) -> dict[str, object]:
    return {
        "labels": view.labels,
        "annotations": view.annotations | {"description": view.evidence},
        "startsAt": rfc3339(view.fired_at_s),
        "endsAt": rfc3339(now_s + _ENDS_AFTER_S),
        "updatedAt": rfc3339(now_s),
        "fingerprint": view.fingerprint,
        "generatorURL": view.annotations.get("generator_url", ""),
        "receivers": [{"name": name} for name in _told(view)],
        "status": {
            "state": "suppressed" if _suppressed(view) else "active" if view.told else "unprocessed",
            "silencedBy": [view.silenced_by] if view.silenced_by else [],
            "inhibitedBy": [view.inhibited_by.partition(":")[0]] if view.inhibited_by else [],
        },
    }


def _groups(
    desks: Sequence[Desk], query: Mapping[str, Sequence[str]], now_s: float
) -> list[dict[str, object]]:
    groups: dict[tuple[str, str, str], list[dict[str, object]]] = {}
    for alert in _alerts(desks, query, now_s):
        labels, receivers = alert["labels"], alert["receivers"]
        assert isinstance(labels, dict)
        assert isinstance(receivers, list)
        name = receivers[0]["name"] if receivers else "nobody"
        groups.setdefault((labels.get("env", ""), labels.get("service", ""), name), []).append(alert)
    return [
        {"labels": {"env": env, "service": service}, "receiver": {"name": receiver}, "alerts": alerts}
        for (env, service, receiver), alerts in sorted(groups.items(), key=lambda item: item[0])
    ]


def _take(desks: Sequence[Desk], body: bytes, now_s: float) -> Response:
    posted = msgspec.json.decode(body, type=list[_PostedAlert])
    if len(posted) > _MAX_ALERTS:
        raise _BadRequest(f"at most {_MAX_ALERTS} alerts at once")
    by_desk: dict[str, list[ExternalAlert]] = {}
    names = [desk.env for desk in desks]
    for one in posted:
        if not one.labels.get("alertname") or len(one.labels) > _MAX_LABELS:
            raise _BadRequest("every alert needs the label alertname, and at most 64 labels")
        env = one.labels.get("env", "")
        alert = ExternalAlert(
            labels=one.labels,
            annotations={name: text[:2000] for name, text in one.annotations.items()},
            starts_at_s=_seconds(one.starts_at),
            ends_at_s=_seconds(one.ends_at),
            generator_url=one.generator_url[:500],
        )
        by_desk.setdefault(env if env in names else names[0], []).append(alert)
    for desk in desks:
        if desk.env in by_desk:
            desk.judge.receive(by_desk[desk.env], now_s)
    return Response()


def _silences(
    desks: Sequence[Desk], query: Mapping[str, Sequence[str]], now_s: float
) -> list[dict[str, object]]:
    matchers = _filter(query)
    found = {one.id: one for desk in desks for one in desk.judge.silences()}
    return [
        _gettable_silence(one, now_s)
        for one in found.values()
        if all(_selects(wanted, one) for wanted in matchers)
    ]


def _selects(wanted: Matcher, silence: Silence) -> bool:
    labels = {one.name: one.value for one in silence.matchers}
    return wanted.matches(labels)


def _gettable_silence(silence: Silence, now_s: float) -> dict[str, object]:
    over = now_s >= silence.ends_at_s
    state = "expired" if over else "active" if silence.active(now_s) else "pending"
    return {
        "id": silence.id,
        "status": {"state": state},
        "updatedAt": rfc3339(silence.created_at_s),
        "startsAt": rfc3339(silence.starts_at_s),
        "endsAt": rfc3339(silence.ends_at_s),
        "createdBy": silence.author,
        "comment": silence.comment,
        "matchers": silence.matchers,
    }


def _one_silence(desks: Sequence[Desk], identity: str, now_s: float) -> Response:
    for desk in desks:
        for silence in desk.judge.silences():
            if silence.id == identity:
                return _json(_gettable_silence(silence, now_s))
    return _missing(identity)


def _silence(desks: Sequence[Desk], body: bytes, now_s: float) -> Response:
    posted = msgspec.json.decode(body, type=_PostedSilence)
    silence = Silence(
        # An edited silence is a new one, as in Alertmanager: what was said before stays said.
        id=str(uuid.uuid4()),
        matchers=tuple(
            matcher(one.name, one.value, is_regex=one.is_regex, is_equal=one.is_equal)
            for one in posted.matchers
        ),
        starts_at_s=_seconds(posted.starts_at) or now_s,
        ends_at_s=_seconds(posted.ends_at),
        author=posted.created_by,
        comment=posted.comment,
        created_at_s=now_s,
        covers_dependents=posted.covers_dependents,
        expire_on_resolve=posted.expire_on_resolve or posted.comment.startswith(_ACK),
    )
    for desk in desks:
        desk.judge.silence(silence, now_s)
        if posted.comment.startswith(_ACK):
            _acknowledge(desk, silence, now_s)
    if posted.id:
        for desk in desks:
            desk.judge.expire(posted.id, now_s)
    return _json({"silenceID": silence.id})


def _acknowledge(desk: Desk, silence: Silence, now_s: float) -> None:
    """Alertmanager has no acknowledgement; karma's way is a silence whose comment begins with ACK!."""
    for view in desk.judge.active():
        if view.told and silence.matches(view.labels):
            lasts_s = silence.ends_at_s - now_s
            desk.judge.ack(view.episode, silence.author, now_s, lasts_s=lasts_s)


def _filter(query: Mapping[str, Sequence[str]]) -> tuple[Matcher, ...]:
    return tuple(one for text in query.get("filter", ()) for one in parse_matchers(text))


def _seconds(text: str) -> float:
    """Wall seconds of an RFC 3339 time; 0 for none or for Go's zero time."""
    if not text:
        return 0.0
    moment = datetime.fromisoformat(_six_digits(text))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    at_s = moment.timestamp()
    return 0.0 if at_s <= _UNKNOWN_START_S else at_s


def _six_digits(text: str) -> str:
    """Go writes up to nine digits of a second; Python reads six."""
    head, dot, tail = text.partition(".")
    if not dot:
        return text
    digits = len(tail) - len(tail.lstrip("0123456789"))
    return f"{head}.{tail[:digits][:6].ljust(6, '0')}{tail[digits:]}"
