"""The page of one incident: what it says, who may take or silence it, and that a link alone does nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser

import aiohttp
import pytest

from agent.incident_routes import incident_routes
from agent.web.server import WebOptions, serving
from alerts.external import ExternalAlert
from alerts.notice import NoticeKind
from alerts.passes import admits, dressed, issue
from checks.secret import Secret
from tests.agent.web.platform import small
from tests.alerts.test_alertmanager_api import WorldDesk

TOKEN = Secret("open-sesame")


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.fields: dict[str, str] = {}
        self.actions: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        found = {name: value or "" for name, value in attrs}
        if tag == "input":
            self.fields[found["name"]] = found.get("value", "")
        if tag == "form":
            self.actions.append(found["action"])


@asynccontextmanager
async def page(desk: WorldDesk, token: Secret | None = TOKEN) -> AsyncIterator[aiohttp.ClientSession]:
    source = small()
    # The page tells the time of the desk.
    source.wait(desk.world.now_s - source.now_s())
    routes = incident_routes(lambda: (desk,), lambda: token)
    async with (
        serving(source, WebOptions(port=0, token=token), more=routes) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
    ):
        yield session


@pytest.fixture
def desk() -> WorldDesk:
    made = WorldDesk()
    made.world.kill("postgres")
    made.world.pass_s(5)
    return made


def _episode(desk: WorldDesk) -> str:
    return desk.world.told()[0].episode


async def _read(session: aiohttp.ClientSession, path: str) -> tuple[int, str, Elements]:
    async with session.get(path) as answer:
        text = await answer.text()
        assert "script" not in (policy := answer.headers["Content-Security-Policy"]), policy
    found = Elements()
    found.feed(text)
    return answer.status, text, found


async def test_it_says_what_is_wrong_and_offers_nothing_hidden(desk: WorldDesk) -> None:
    async with page(desk) as session:
        status, text, found = await _read(session, f"/i/{_episode(desk)}")
    assert status == 200
    assert "postgres cannot be used" in text
    assert "asset, auth, chat, gateway" in text
    assert "on_call/console" in text
    assert found.actions == [f"/i/{_episode(desk)}/ack", f"/i/{_episode(desk)}/silence"]
    assert "token" in found.fields
    assert not {"script", "img", "iframe", "link"} & set(found.names)


async def test_opening_a_link_does_nothing_and_its_button_does(desk: WorldDesk) -> None:
    episode = _episode(desk)
    given = issue(TOKEN, episode, desk.world.now_s)
    async with page(desk) as session:
        _, _, found = await _read(session, f"/i/{episode}?pass={given}")
        assert found.fields["pass"] == given
        assert "token" not in found.fields
        assert desk.world.alert("database_down", "postgres").acked_by == ""
        form = {"pass": given, "author": "mira", "lasts": "1h"}
        async with session.post(f"/i/{episode}/ack", data=form) as answer:
            text = await answer.text()
            assert (answer.status, "mira has taken it until 09:00:3" in text) == (200, True), text
    assert desk.world.alert("database_down", "postgres").acked_by == "mira"


async def test_a_silence_is_for_that_alert_alone_and_has_an_author_and_an_end(desk: WorldDesk) -> None:
    episode = _episode(desk)
    form = {"token": TOKEN.reveal(), "author": "mira", "lasts": "1h", "comment": "known"}
    async with page(desk) as session, session.post(f"/i/{episode}/silence", data=form) as answer:
        assert answer.status == 200
    (silence,) = desk.judge.silences()
    assert (silence.author, silence.comment) == ("mira", "known")
    assert silence.ends_at_s == desk.world.now_s + 3600
    assert {str(one) for one in silence.matchers} >= {'alertname="database_down"', 'service="postgres"'}
    desk.world.pass_s(2)
    assert desk.world.alert("database_down", "postgres").silenced_by == silence.id


@pytest.mark.parametrize("proof", [{}, {"token": "wrong"}, {"pass": "0.0"}, {"pass": "of another"}])
async def test_without_a_pass_or_the_token_nothing_is_done(desk: WorldDesk, proof: dict[str, str]) -> None:
    if proof.get("pass") == "of another":
        proof = {"pass": issue(TOKEN, "0123456789abcdef:1", desk.world.now_s)}
    episode = _episode(desk)
    form = proof | {"author": "eve"}
    async with page(desk) as session, session.post(f"/i/{episode}/ack", data=form) as answer:
        assert answer.status == 403
        assert "open the page and type the token" in await answer.text()
    assert desk.world.alert("database_down", "postgres").acked_by == ""


async def test_an_agent_without_a_token_shows_and_does_nothing(desk: WorldDesk) -> None:
    episode = _episode(desk)
    async with page(desk, token=None) as session:
        _, text, found = await _read(session, f"/i/{episode}")
        assert "given no token" in text
        assert found.actions == []
        async with session.post(f"/i/{episode}/ack", data={"token": "", "author": "eve"}) as answer:
            assert answer.status == 403


@pytest.mark.parametrize(
    ("action", "fields", "words"),
    [
        ("ack", {"author": " "}, "say who you are"),
        ("ack", {"author": "mira", "lasts": "soon"}, "is not a duration"),
        ("ack", {"author": "mira", "lasts": "30d"}, "between a minute and a week"),
        ("silence", {"author": "mira", "comment": ""}, "needs an author and a comment"),
    ],
)
async def test_a_form_that_lacks_something_says_what(
    desk: WorldDesk, action: str, fields: dict[str, str], words: str
) -> None:
    form = {"token": TOKEN.reveal()} | fields
    async with page(desk) as session, session.post(f"/i/{_episode(desk)}/{action}", data=form) as answer:
        assert answer.status == 400
        assert words in await answer.text()


async def test_what_is_over_can_only_be_read_and_what_never_was_is_not_found(desk: WorldDesk) -> None:
    episode = _episode(desk)
    desk.world.heal("postgres")
    desk.world.pass_s(10)
    async with page(desk) as session:
        status, text, found = await _read(session, f"/i/{episode}")
        assert (status, found.actions) == (200, [])
        assert "resolved: postgres cannot be used" in text
        async with session.get("/i/nothing:1") as answer:
            assert answer.status == 404


async def test_hostile_words_stay_words(desk: WorldDesk) -> None:
    alert = ExternalAlert(
        labels={"alertname": "<script>x</script>", "service": "nats", "severity": "critical"},
        annotations={
            "summary": "<img src=x onerror=y>", "description": '"><script>z</script>',
            "runbook_url": "javascript:alert(1)",
        },
    )  # fmt: skip
    desk.judge.receive([alert], desk.world.now_s)
    desk.world.pass_s(2)
    episode = desk.world.told(NoticeKind.TRIGGER)[-1].episode
    async with page(desk) as session:
        _, text, found = await _read(session, f"/i/{episode}")
    assert not {"script", "img"} & set(found.names)
    assert "javascript:" not in text


def test_a_pass_is_for_one_episode_and_a_day_and_ends_with_the_token() -> None:
    given = issue(TOKEN, "a:1", 1000.0)
    assert admits(TOKEN, "a:1", given, 1000.0 + 86399)
    assert not admits(TOKEN, "a:1", given, 1000.0 + 86401)
    assert not admits(TOKEN, "b:1", given, 1000.0)
    assert not admits(Secret("another"), "a:1", given, 1000.0)
    until, _, signature = given.partition(".")
    assert not admits(TOKEN, "a:1", f"{int(until, 16) + 86400:x}.{signature}", 1000.0)
    for nonsense in ("", ".", "x.y", f"-1.{signature}", given[:-1], f"{given}0", "é.é"):
        assert not admits(TOKEN, "a:1", nonsense, 1000.0)


def test_messages_carry_links_to_take_and_silence_only_where_that_makes_sense(desk: WorldDesk) -> None:
    trigger = desk.world.told()[0]
    labels = [label for label, _ in dressed(trigger, TOKEN, 0.0).links]
    assert labels == ["Acknowledge", "Open", "Silence"]
    assert dressed(trigger, None, 0.0) == trigger
    desk.world.heal("postgres")
    desk.world.pass_s(10)
    (end,) = desk.world.told(NoticeKind.RESOLVE)
    assert dressed(end, TOKEN, 0.0) == end
