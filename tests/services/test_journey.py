"""One user's way through the whole platform, and what it leaves in traces, logs and metrics."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json

import aiohttp

from services.instrumentation.tracing import Kind
from tests.services.conftest import Platform, sign_in
from tests.services.running import Running
from tests.waiting import until


async def test_a_user_signs_up_uploads_chats_and_reads_the_answer_as_it_is_stored(
    platform: Platform, http: aiohttp.ClientSession
) -> None:
    user = await sign_in(http, platform.url)
    content = bytes(range(256)) * 40
    async with http.post(
        f"{platform.url}/api/v1/assets?name=scan.bin", data=content, headers=user.headers
    ) as response:
        asset = await response.json()
    assert (response.status, asset["size_bytes"]) == (201, len(content))
    assert asset["sha256"] == hashlib.sha256(content).hexdigest()
    async with http.get(
        f"{platform.url}/api/v1/assets/{asset['id']}/content", headers={**user.headers, "Range": "bytes=5-8"}
    ) as response:
        assert (response.status, await response.read()) == (206, content[5:9])
    async with http.post(
        f"{platform.url}/api/v1/chat/rooms", json={"id": "ward-7", "title": "Ward 7"}, headers=user.headers
    ) as response:
        assert response.status == 201
    events = asyncio.create_task(read_events(http, platform.url, user.headers, "ward-7", count=2))
    await until(lambda: platform.chat.sample("chat_open_streams") == 1)
    async with http.post(
        f"{platform.url}/api/v1/chat/rooms/ward-7/messages",
        json={"text": "How is the patient?", "reply": True},
        headers=user.headers,
    ) as response:
        accepted = await response.json()
    assert response.status == 202
    told = [event for event in await events if "seq" in event]
    assert [(event["kind"], event["author"]) for event in told] == [
        ("user", user.subject),
        ("assistant", "assistant"),
    ]
    assert told[0]["id"] == accepted["id"] == told[1]["in_reply_to"]
    assert str(told[1]["text"]).startswith("No language model answered")


async def test_scenario_15_trace_logs_and_metrics_of_one_request_belong_together(
    platform: Platform, http: aiohttp.ClientSession
) -> None:
    user = await sign_in(http, platform.url)
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {**user.headers, "traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
    async with http.post(
        f"{platform.url}/api/v1/chat/rooms/lobby/messages", json={"text": "hello"}, headers=headers
    ) as response:
        assert response.status == 202

    def of_trace(running: Running) -> list[tuple[str, str]]:
        return [(s.name, s.context.span_id) for s in running.spans.spans if s.context.trace_id == trace_id]

    await until(
        lambda: any(name.startswith("process gaia.{env}.chat.post") for name, _ in of_trace(platform.chat))
    )
    spans = {
        span.context.span_id: span
        for running in platform.services
        for span in running.spans.spans
        if span.context.trace_id == trace_id
    }
    by_name = {span.name: span for span in spans.values()}
    # Gateway server, gateway client, chat server, send, process, INSERT: each hangs on the one before.
    chain = [
        by_name["INSERT chat"],
        by_name["process gaia.{env}.chat.post.*"],
        by_name["send gaia.{env}.chat.post.{room}"],
        by_name["POST /api/v1/chat/rooms/{room}/messages"],
        by_name["POST"],
        by_name["POST /api/v1/chat/*"],
    ]
    for below, above in itertools.pairwise(chain):
        assert below.parent is not None
        assert below.parent.span_id == above.context.span_id, (below.name, above.name)
    assert chain[-1].parent is not None
    assert chain[-1].parent.span_id == "00f067aa0ba902b7"
    assert [span.kind for span in chain] == [
        Kind.CLIENT, Kind.CONSUMER, Kind.PRODUCER, Kind.SERVER, Kind.CLIENT, Kind.SERVER,
    ]  # fmt: skip
    await until(
        lambda: trace_id in platform.chat.log.read_text() and trace_id in platform.gateway.log.read_text()
    )
    for running, route in (
        (platform.gateway, "/api/v1/chat/*"),
        (platform.chat, "/api/v1/chat/rooms/{room}/messages"),
    ):
        line = next(line for line in running.lines() if line["trace_id"] == trace_id)
        assert (line["route"], line["status"], line["auth_subject"]) == (route, 202, user.subject)
        async with http.get(
            f"{running.url}/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}
        ) as response:
            exposition = await response.text()
        assert f'# {{trace_id="{trace_id}"}}' in exposition


async def read_events(
    http: aiohttp.ClientSession, url: str, headers: dict[str, str], room: str, *, count: int
) -> list[dict[str, object]]:
    """The data of the first `count` stored messages (and what came between) of a room's stream."""
    events: list[dict[str, object]] = []
    async with (
        asyncio.timeout(10),
        http.get(f"{url}/api/v1/chat/rooms/{room}/events", headers=headers) as response,
    ):
        async for line in response.content:
            if line.startswith(b"data: "):
                events.append(json.loads(line[6:]))
                if sum("seq" in event for event in events) == count:
                    break
    return events
