"""Server-sent events: ids, replay, reset, heartbeat, and what slow or many readers get."""

from __future__ import annotations

import json

import aiohttp
import pytest

from agent.board import EventKind
from agent.web import events
from agent.web.server import WebOptions, serving
from tests.agent.web.conftest import client_of
from tests.agent.web.platform import Platform


def emit(platform: Platform, text: str) -> int:
    return platform.board.emit(
        EventKind.TARGET, at_s=platform.time_s, env="production", subject="auth", state="down", text=text
    ).seq


async def frame(response: aiohttp.ClientResponse) -> dict[str, str]:
    """The next event that is not only a comment."""
    fields: dict[str, str] = {}
    while True:
        line = (await response.content.readline()).decode().rstrip("\n")
        if not line and "data" in fields:
            return fields
        name, _, value = line.partition(": ")
        if name and line[0] != ":":
            fields[name] = value


async def test_events_arrive_as_they_happen_with_their_numbers(
    platform: Platform, client: aiohttp.ClientSession
) -> None:
    async with client.get("/api/v1/events") as response:
        assert response.content_type == "text/event-stream"
        assert (await response.content.readline()) == b"retry: 3000\n"
        seq = emit(platform, "line\nfeed \u202e and <b>")
        told = await frame(response)
    assert (told["id"], told["event"]) == (str(seq), "target")
    assert json.loads(told["data"])["text"] == "line\nfeed \u202e and <b>"


async def test_a_reader_that_comes_back_gets_what_it_missed(
    platform: Platform, client: aiohttp.ClientSession
) -> None:
    first = emit(platform, "one")
    emit(platform, "two")
    emit(platform, "three")
    async with client.get("/api/v1/events", headers={"Last-Event-ID": str(first)}) as response:
        assert [json.loads((await frame(response))["data"])["text"] for _ in range(2)] == ["two", "three"]


@pytest.mark.parametrize("known", ["999999", "0"], ids=["of another life of the agent", "too long ago"])
async def test_a_reader_that_cannot_be_caught_up_is_told_to_start_again(
    platform: Platform, known: str
) -> None:
    for number in range(1100):
        emit(platform, str(number))
    async with (
        client_of(platform) as client,
        client.get("/api/v1/events", headers={"Last-Event-ID": known}) as response,
    ):
        told = await frame(response)
    assert (told["event"], told["id"]) == ("reset", str(platform.board.last_seq))


async def test_a_wrong_number_is_refused(client: aiohttp.ClientSession) -> None:
    for wrong in ("x", "-1", "1" * 30, "²"):
        async with client.get("/api/v1/events", params={"after": wrong}) as response:
            assert response.status == 400


async def test_quiet_times_have_a_heartbeat(
    client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.05)
    async with client.get("/api/v1/events") as response:
        lines = [await response.content.readline() for _ in range(8)]
    assert lines[4:] == [b": alive\n", b"\n", b": alive\n", b"\n"]


async def test_a_reader_that_leaves_is_forgotten(platform: Platform) -> None:
    async with client_of(platform, max_clients=1) as client:
        async with client.get("/api/v1/events") as response:
            await response.content.readline()
            async with client.get("/api/v1/events") as refused:
                assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
            async with client.get("/livez") as lives:
                assert lives.status == 200

        async def accepted() -> bool:
            async with client.get("/api/v1/events") as again:
                return again.status == 200

        # The server learns of the leave when it reads the closed socket, a few turns of its loop later.
        assert any([await accepted() for _ in range(50)])


async def test_stopping_ends_the_streams(platform: Platform) -> None:
    async with aiohttp.ClientSession() as client:
        async with serving(platform, WebOptions(port=0)) as port:
            response = await client.get(f"http://127.0.0.1:{port}/api/v1/events")
            await response.content.readline()
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
