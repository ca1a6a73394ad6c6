"""`/i/…`: the page of one incident, where whoever was called takes or silences it.

A pass from a message that was sent, or the agent's token typed in, lets somebody do that. Opening a link
does nothing by itself: mail scanners and link previews open links too.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import uuid
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs

from msgspec import Struct

from agent.web.exchange import Answer, Asked, Refused
from agent.web.page.incident import STYLE, Shown, document
from alerts.desk import Desk
from alerts.notice import Notice, NoticeKind
from alerts.passes import admits
from alerts.silence import Matcher, Silence
from alerts.told import STORM, Told
from alerts.words import clock
from checks.secret import Secret
from checks.units import Duration

_LONGEST_S: Final = 7 * 86400.0
_FIELDS: Final = 10
_KINDS: Final = (NoticeKind.TRIGGER, NoticeKind.UPDATE, NoticeKind.RESOLVE)
_POLICY: Final = (
    "default-src 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    + "'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class _Found(Struct, frozen=True):
    desk: Desk
    told: Told


def page(desks: Sequence[Desk], token: Secret | None, asked: Asked, now_s: float) -> Answer:
    """One incident: what is wrong, what was done about it, and by whom it can be taken."""
    found = _find(desks, asked.parameters["episode"])
    given = asked.query.get("pass", "")
    valid = token is not None and admits(token, found.told.episode, given, now_s)
    said = "This link has expired: type the agent's token instead." if given and not valid else ""
    shown = _shown(found, given=given if valid else "", writes=bool(token))
    return _html(document(shown, now_s, said=said))


def act(desks: Sequence[Desk], token: Secret | None, asked: Asked, now_s: float) -> Answer:
    """Do what the path's last word says, and show the page with what came of it."""
    found = _find(desks, asked.parameters["episode"])
    fields = {name: values[0].strip() for name, values in _form(asked.body).items()}
    given = _admitted(found.told.episode, fields, token, now_s)
    deed = _silence if asked.path.endswith("/silence") else _ack
    try:
        said = deed(found, fields, now_s)
    except ValueError as error:
        raise Refused(HTTPStatus.BAD_REQUEST, str(error)) from error
    after = _find(desks, found.told.episode)
    return _html(document(_shown(after, given=given, writes=True), now_s, said=said))


def _form(body: bytes) -> dict[str, list[str]]:
    try:
        return parse_qs(body.decode(), max_num_fields=_FIELDS)
    except ValueError as error:
        raise Refused(HTTPStatus.BAD_REQUEST, "the form cannot be read: send it as the page does") from error


def _admitted(episode: str, fields: dict[str, str], token: Secret | None, now_s: float) -> str:
    """The pass to go on with. Raises Refused for whoever has neither a pass nor the token."""
    if token is None or not token:
        raise Refused(HTTPStatus.FORBIDDEN, "writes are off: this agent was given no token")
    given = fields.get("pass", "")
    if given and admits(token, episode, given, now_s):
        return given
    typed = fields.get("token", "").encode()
    if typed and hmac.compare_digest(typed, token.reveal().encode()):
        return ""
    raise Refused(
        HTTPStatus.FORBIDDEN, "the link has expired or the token is wrong: open the page and type the token"
    )


def _ack(found: _Found, fields: dict[str, str], now_s: float) -> str:
    author = _author(fields)
    lasts_s = _lasts_s(fields)
    if not found.desk.judge.ack(found.told.episode, author, now_s, lasts_s=lasts_s):
        return "It is over: there is nothing left to take."
    return f"{author} has taken it until {clock(now_s + lasts_s)}. Reminders and escalation have stopped."


def _silence(found: _Found, fields: dict[str, str], now_s: float) -> str:
    told = found.told
    if told.fingerprint == STORM:
        raise ValueError("many alerts at once have no one name: silence a service with gaia silence add")
    ends_s = now_s + _lasts_s(fields)
    made = Silence(
        id=str(uuid.uuid4()),
        matchers=tuple(
            Matcher(name=name, value=value) for name, value in told.labels.items() if name != "severity"
        ),
        starts_at_s=now_s,
        ends_at_s=ends_s,
        author=_author(fields),
        comment=fields.get("comment", ""),
        created_at_s=now_s,
    )
    found.desk.judge.silence(made, now_s)
    return f"Silenced until {clock(ends_s)}; gaia silence expire {made.id} ends it."


def _author(fields: dict[str, str]) -> str:
    author = " ".join(fields.get("author", "").split())[:60]
    if not author:
        raise ValueError("say who you are: the name is empty")
    return author


def _lasts_s(fields: dict[str, str]) -> float:
    lasts_s = float(Duration.parse(fields.get("lasts", "1h")))
    if not 0 < lasts_s <= _LONGEST_S:
        raise ValueError("choose a time between a minute and a week")
    return lasts_s


def _find(desks: Sequence[Desk], episode: str) -> _Found:
    for desk in desks:
        told = desk.journal.episode(episode)
        if told is not None:
            return _Found(desk, told)
    raise Refused(HTTPStatus.NOT_FOUND, "there is no such incident; those of the last month are kept")


def _shown(found: _Found, *, given: str, writes: bool) -> Shown:
    told, journal = found.told, found.desk.journal
    rows = journal.outbox_of(told.episode)
    said = [row.notice for row in rows if row.notice.kind in _KINDS]
    latest = said[-1] if said else None
    timeline = [
        (one.at_s, f"{one.what}: {one.text}".rstrip(": "))
        for one in journal.happenings(told.fingerprint)
        if told.fired_at_s - 3600 <= one.at_s <= (told.resolved_at_s or one.at_s)
    ]
    timeline += [
        (row.ended_at_s, f"{row.channel} took the {row.notice.kind.value}")
        for row in rows
        if row.state == "sent" and row.ended_at_s is not None
    ]
    views = [view for view in found.desk.judge.active() if view.fingerprint == told.fingerprint]
    return Shown(
        episode=told.episode,
        title=latest.title if latest is not None else told.title,
        env=told.env,
        severity=told.severity.value,
        fired_s=told.fired_at_s,
        resolved_s=told.resolved_at_s,
        acked_by=told.acked_by,
        acked_until_s=told.acked_until_s,
        silenced_by=views[0].silenced_by if views else "",
        blocks=latest.body if latest is not None else (("", told.text),),
        links=_links(latest),
        timeline=tuple(sorted(timeline)),
        may_silence=told.fingerprint != STORM,
        given=given,
        writes=writes,
    )


def _links(notice: Notice | None) -> tuple[tuple[str, str], ...]:
    return () if notice is None else tuple(link for link in notice.links if link[0] != "Open")


def _html(text: str) -> Answer:
    return Answer(
        body=text.encode(),
        type="text/html; charset=utf-8",
        headers={"Content-Security-Policy": _POLICY},
    )
