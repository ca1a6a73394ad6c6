"""The status page as a document: true, safe, complete without its script."""

from __future__ import annotations

import base64
import hashlib
from html.parser import HTMLParser

import aiohttp
import pytest

from agent.web.page.html import anchor, esc, percent, rate, span_text
from agent.web.page.marks import wall
from agent.web.source import ActiveAlert, AgentPart, Change
from checks.finding import Evidence, Finding, State
from checks.reason import Reason
from tests.agent.web.conftest import client_of
from tests.agent.web.platform import (
    DEVELOPMENT,
    PRODUCTION,
    START_S,
    Platform,
    database_down,
    refused,
    scaled,
    small,
    target,
    up,
)

EVIL = '<script>alert(1)</script>" onmouseover="x\u202egnp.exe\0'
_VOID = {"meta", "link", "input", "br", "path", "circle", "rect", "use"}


class Page(HTMLParser):
    """The page's elements and text; fails on a tag that is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"script", "style"}:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in self.elements if "id" in attributes]


async def read(platform: Platform, path: str = "/") -> Page:
    async with client_of(platform) as client, client.get(path) as response:
        assert response.status == 200
        return Page(await response.text())


async def test_all_up_is_said_in_a_sentence() -> None:
    page = await read(small())
    assert "Production is healthy" in page.text
    assert "Production: 4 of 4 up. No alert is active." in page.text
    assert [row["data-s"] for row in page.all("details") if row.get("class") == "item"] == ["up"] * 4


async def test_some_instances_down_is_a_degraded_service_that_says_how_many() -> None:
    page = await read(scaled(State.UP, State.DOWN, State.UP))
    assert "chat is degraded in production" in page.text
    said = "1 of 3 instances does not answer: 10.0.0.2:8003 refuses connections: nobody listens there"
    assert page.text.count(said) == 2
    assert [row["data-s"] for row in page.all("details") if row.get("class") == "item"] == ["degraded"]
    page = await read(scaled(State.DOWN, State.DOWN, State.DOWN))
    assert "chat is down in production" in page.text
    assert "3 of 3 instances do not answer: 10.0.0.1:8003 refuses" in page.text


async def test_a_failed_database_is_told_with_what_follows_and_what_still_works() -> None:
    platform = database_down()
    platform.active.append(
        ActiveAlert(
            id="a1", name="database_down", env="production", service="postgres", severity="page",
            state="firing", since_s=platform.time_s - 20, fired_s=platform.time_s - 20,
            title="postgres is down in production", summary="Nobody listens there.", value="refused",
            threshold="accepts", evidence=(Evidence(name="errno", value="ECONNREFUSED"),),
            affected=("auth", "chat"), first_step="Start it.", runbook="https://runbooks.example/pg",
        )
    )  # fmt: skip
    page = await read(platform)
    assert "postgres is down in production" in page.text
    assert "Auth and chat depend on it and suffer too. Gateway is up." in page.text
    for words in (
        "Firing",
        "refused",
        "limit accepts",
        "ECONNREFUSED",
        "Also affected, not called apart",
        "Start it.",
    ):
        assert words in page.text
    assert {"https://runbooks.example/pg"} <= {link["href"] for link in page.all("a")}
    rows = [row["data-s"] for row in page.all("details") if row.get("class") == "item"]
    assert rows == ["down", "down", "down", "up"]
    names = [row["id"] for row in page.all("details") if row.get("class") == "item"]
    assert names[0] == "c.production.postgres"


async def test_before_the_first_look_nothing_is_shown_as_healthy() -> None:
    platform = Platform()
    platform.place((target("auth"), ()))
    page = await read(platform)
    assert "Waiting for the first look" in page.text
    assert "Nothing is shown as healthy until a check has passed." in page.text
    assert [row["data-s"] for row in page.all("details") if row.get("class") == "item"] == ["unknown"]


async def test_without_targets_the_page_says_what_to_write() -> None:
    page = await read(Platform())
    assert "Nothing is watched yet" in page.text
    assert "services:" in page.text


async def test_what_is_too_old_is_shown_as_no_data() -> None:
    platform = small()
    platform.wait(3600)
    page = await read(platform)
    assert {row["data-s"] for row in page.all("details") if row.get("class") == "item"} == {"unknown"}
    assert "due every 10 s; it was up" in page.text


async def test_hostile_text_stays_text() -> None:
    platform = Platform()
    platform.place((target(EVIL, address=EVIL), (EVIL,)), (target("x" * 5000), ()))
    finding = Finding(
        state=State.DOWN, reason=Reason.STATUS, message=EVIL * 50, hard=True,
        evidence=(Evidence(name=EVIL, value=EVIL),),
    )  # fmt: skip
    for _ in range(2):
        for row in platform.board.rows():
            platform.look(row.target.key, finding)
    platform.changed.append(Change(at_s=START_S, env=EVIL, service=EVIL, kind=EVIL, text=EVIL, author=EVIL))
    platform.parts = (AgentPart(name=EVIL, state=State.DOWN, text=EVIL),)
    platform.active.append(
        ActiveAlert(
            id=EVIL, name=EVIL, env=EVIL, service=EVIL, severity=EVIL, state="firing", since_s=START_S,
            title=EVIL, summary=EVIL, value=EVIL, threshold=EVIL, first_step=EVIL,
            runbook="javascript:alert(1)", muted=EVIL, notified=(EVIL,), affected=(EVIL,),
        )
    )  # fmt: skip
    page = await read(platform)
    assert len(page.all("script")) == 1
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert not attributes.get("href", "").startswith("javascript:")
    assert "\u202e" not in page.text
    assert "<U+202E>gnp.exe" in page.text


@pytest.mark.parametrize("platform", [small(), database_down(), Platform()], ids=["up", "down", "empty"])
async def test_the_document_is_sound(platform: Platform) -> None:
    page = await read(platform)
    assert len(page.ids) == len(set(page.ids))
    for name in ("html", "title", "h1", "main", "header", "footer"):
        assert page.all(name), name
    for attributes in page.all("svg"):
        assert (
            attributes.get("aria-hidden") == "true"
            or attributes.get("role") in {"img", "group"}
            or "x" in attributes
        )
    for link in page.all("a"):
        target_id = link["href"].partition("#")[2]
        assert not link["href"].startswith("#") or target_id in page.ids


async def test_the_newest_events_are_told_newest_first() -> None:
    page = await read(database_down())
    lately = page.text.split("Lately")[1].split("What changed")[0]
    assert lately.index("chat: down") < lately.index("postgres: down") < lately.index("postgres: up")
    assert "db.example:5432 refuses connections" in lately
    assert "Lately" not in (await read(Platform())).text


async def test_nothing_is_loaded_from_elsewhere_and_the_policy_fits_the_document() -> None:
    async with client_of(small()) as client, client.get("/") as response:
        text, policy = await response.text(), response.headers["Content-Security-Policy"]
    page = Page(text)
    assert not page.all("img")
    for attributes in (*page.all("link"), *page.all("script")):
        assert attributes.get("href", "data:").startswith("data:")
        assert "src" not in attributes
    for name in ("style", "script"):
        inside = text.split(f"<{name}>")[1].split(f"</{name}>")[0]
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


async def test_the_reader_chooses_by_address() -> None:
    platform = Platform(environments=(DEVELOPMENT, PRODUCTION))
    for env in ("production", "development"):
        platform.place((target("auth", env=env), ()), (target("chat", env=env), ()))
    for row in platform.board.rows():
        platform.look(row.target.key, up())
    for _ in range(3):
        platform.look(target("chat", env="development").key, refused("chat"))

    async def rows(path: str) -> list[str]:
        page = await read(platform, path)
        return [row["id"] for row in page.all("details") if row.get("class") == "item"]

    assert await rows("/?env=development") == ["c.development.chat", "c.development.auth"]
    assert await rows("/?show=problems") == ["c.development.chat"]
    assert await rows("/?q=AUT") == ["c.production.auth", "c.development.auth"]
    assert "No component matches." in (await read(platform, "/?q=nothing")).text
    async with client_of(platform) as client, client.get("/?env=moon") as response:
        assert response.status == 404


async def test_a_large_fleet_is_paged_with_its_problems_first_and_all_of_it_on_a_wall() -> None:
    platform = Platform()
    platform.place(*((target(f"s{number:04d}"), ()) for number in range(1000)))
    for row in platform.board.rows():
        platform.look(row.target.key, up())
    for _ in range(2):
        platform.look(target("s0999").key, refused("s0999"))
    page = await read(platform)
    rows = [row["id"] for row in page.all("details") if row.get("class") == "item"]
    assert (len(rows), rows[0], rows[1]) == (100, "c.production.s0999", "c.production.s0000")
    assert "1 down, 999 up" in [image.get("aria-label") for image in page.all("svg")]
    assert "/?after=100#comp" in [link["href"] for link in page.all("a")]
    assert len(page.elements) < 6000


async def test_the_changing_part_can_be_had_alone(client: aiohttp.ClientSession) -> None:
    async with client.get("/?part=view") as response:
        text = await response.text()
    assert text.startswith('<div id="view"')
    assert "<style" not in text


async def test_many_readers_cost_one_rendering(platform: Platform, client: aiohttp.ClientSession) -> None:
    async def body() -> str:
        async with client.get("/") as response:
            return await response.text()

    first = await body()
    assert await body() == first
    platform.wait(2)
    assert await body() != first


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0004, "0.4 ms"),
        (0.021, "21 ms"),
        (0.9994, "999 ms"),
        (1.4249, "1.42 s"),
        (75.0, "75.00 s"),
    ],
)
def test_durations_are_written_as_people_read_them(value: float | None, text: str) -> None:
    assert span_text(value) == text


def test_shares_and_rates() -> None:
    assert [percent(share) for share in (None, 0, 0.0001, 0.018, 0.31, 1)] == [
        "–", "0 %", "<0.1 %", "1.8 %", "31 %", "100 %",
    ]  # fmt: skip
    assert [rate(value) for value in (None, 0, 0.08, 5.21)] == ["–", "0/min", "4.8/min", "5.21/s"]


def test_text_is_capped_and_invisible_characters_are_named() -> None:
    assert esc("a" * 400) == "a" * 299 + "…"
    assert esc("\u200b\x1b&'\"") == "&lt;U+200B&gt;&lt;U+001B&gt;&amp;&#x27;&quot;"


def test_two_names_never_share_an_anchor() -> None:
    names = ["a-b", "a.b", "a b", "a_b", "a", "ä", "a.20b"]
    assert len({anchor("e", name) for name in names}) == len(names)
    assert anchor("a-b", "c") != anchor("a", "b-c")


def test_the_wall_has_a_cell_for_every_component() -> None:
    def cells(drawing: str) -> int:
        import re

        shapes = re.findall(r"h(\d+)v(\d+)h-", drawing)
        return sum(int(width) * int(height) for width, height in shapes) // 100

    for counts in ({State.DOWN: 7, State.UP: 993}, {State.UP: 400}, {State.DEGRADED: 201, State.UP: 1}):
        assert cells(wall(counts)) == sum(counts.values())
