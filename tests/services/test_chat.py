"""Chat: accepted means stored; redelivered is not repeated; the assistant fails over and stays honest."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiohttp import web

from services.chat.delivery import Posted
from services.instrumentation.tracing import Span
from tests.servers import private_nats
from tests.services.conftest import Platform, sign_in
from tests.services.running import PLATFORM_KEY, Running, answers, serving
from tests.waiting import until

KEY = {"X-API-Key": PLATFORM_KEY}
LOBBY = "/api/v1/chat/rooms/lobby/messages"


@pytest.fixture
async def chat(
    platform_environment: dict[str, str], tmp_path: Path, http: aiohttp.ClientSession
) -> AsyncIterator[Running]:
    async with serving("chat", platform_environment, tmp_path) as running:
        await answers(http, f"{running.url}/readyz")
        yield running


async def post(http: aiohttp.ClientSession, url: str, text: str, **fields: object) -> int:
    async with http.post(f"{url}{LOBBY}", json={"text": text, **fields}, headers=KEY) as response:
        return response.status


async def texts(http: aiohttp.ClientSession, url: str) -> list[str]:
    async with http.get(f"{url}{LOBBY}", headers=KEY) as response:
        return [message["text"] for message in (await response.json())["messages"]]


async def eventually(http: aiohttp.ClientSession, url: str, count: int, within_s: float = 15.0) -> list[str]:
    async with asyncio.timeout(within_s):
        # The condition is another program's answer: there is no event to wait for.
        while len(found := await texts(http, url)) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return found


def delivered(span: Span) -> int:
    return int(span.attributes["messaging.nats.delivered"])


async def test_the_same_message_twice_is_one_message(chat: Running, http: aiohttp.ClientSession) -> None:
    number = str(uuid.uuid4())
    assert [await post(http, chat.url, "once", id=number) for _ in range(3)] == [202, 202, 202]
    assert await post(http, chat.url, "last") == 202
    assert await eventually(http, chat.url, 2) == ["once", "last"]


async def test_scenario_15_a_redelivered_message_is_linked_to_its_trace_not_a_child_of_it(
    chat: Running, http: aiohttp.ClientSession
) -> None:
    process = "process gaia.{env}.chat.post.*"
    # The room vanishes between acceptance and storing: the insert fails until it is back.
    import asyncpg

    connection = await asyncpg.connect(chat.kit.settings.database_url.reveal())  # type: ignore[union-attr]
    await connection.execute("alter table chat.messages rename to hidden")
    assert await post(http, chat.url, "patience") == 202
    await until(lambda: len(chat.spans.named(process)) > 0)
    await connection.execute("alter table chat.hidden rename to messages")
    await connection.close()
    assert await eventually(http, chat.url, 1) == ["patience"]
    await until(lambda: any(delivered(span) > 1 for span in chat.spans.named(process)))
    (send,) = chat.spans.named("send gaia.{env}.chat.post.{room}")
    first, *_, last = sorted(chat.spans.named(process), key=delivered)
    assert first.parent is not None
    assert first.parent.span_id == send.context.span_id
    assert last.parent is None
    assert last.context.trace_id != send.context.trace_id
    assert [link.span_id for link in last.links] == [send.context.span_id]


async def test_a_message_that_never_works_becomes_a_dead_letter(
    chat: Running, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nats

    monkeypatch.setattr("services.instrumentation.jetstream._PAUSES_S", (0.01,))
    client = await nats.connect(chat.kit.settings.nats_url.reveal())  # type: ignore[union-attr]
    stream = client.jetstream()
    subject = chat.kit.settings.subject("chat", "post", "lobby")
    await stream.publish(subject, b"not json", headers={"Nats-Msg-Id": "poison"})
    await until(lambda: chat.sample("messaging_store_dead_letters_total") == 1, within_s=10)
    dead = await stream.get_last_msg(
        chat.kit.settings.stream("CHAT_DEAD"), chat.kit.settings.subject("chatdead", "store")
    )
    await client.close()
    assert dead.data == b"not json"
    # Those behind it are not held up.
    assert await post(http, chat.url, "after the poison") == 202
    assert await eventually(http, chat.url, 1) == ["after the poison"]


async def test_scenario_19_without_nats_a_message_is_refused_and_nothing_accepted_is_lost_or_doubled(
    platform_environment: dict[str, str], tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with private_nats(tmp_path) as nats_server:
        environ = {**platform_environment, "NATS_URL": nats_server.url}
        async with serving("chat", environ, tmp_path) as chat:
            await answers(http, f"{chat.url}/readyz")
            accepted: list[str] = []
            refused: list[int] = []
            for number in range(90):
                if number == 30:
                    nats_server.kill()
                if number == 60:
                    await nats_server.start_async()
                    await answers(http, f"{chat.url}/health")
                status = await post(http, chat.url, f"message {number}")
                if status == 202:
                    accepted.append(f"message {number}")
                else:
                    refused.append(status)
            assert set(refused) == {503}
            assert len(refused) >= 25
            assert accepted[-1] == "message 89"
            await until_same(http, chat.url, accepted)
            async with http.get(f"{chat.url}/livez") as response:
                assert response.status == 200


async def until_same(http: aiohttp.ClientSession, url: str, expected: list[str]) -> None:
    found = await eventually(http, url, len(expected), within_s=40)
    assert sorted(found) == sorted(expected)


async def test_a_reader_continues_where_it_was(platform: Platform, http: aiohttp.ClientSession) -> None:
    user = await sign_in(http, platform.url)
    for number in range(3):
        async with http.post(f"{platform.url}{LOBBY}", json={"text": str(number)}, headers=user.headers):
            pass
    await eventually(http, platform.chat.url, 3)
    url = f"{platform.url}/api/v1/chat/rooms/lobby/events"
    async with http.get(url, headers={**user.headers, "Last-Event-ID": "1"}) as response:
        ids = []
        async for line in response.content:
            if line.startswith(b"id: "):
                ids.append(int(line[4:]))
            if len(ids) == 2:
                break
    assert ids == [2, 3]
    async with http.get(url, headers={**user.headers, "Last-Event-ID": "-1"}) as response:
        assert response.status == 400


@dataclass(slots=True)
class Model:
    """An OpenAI and Anthropic of one's own."""

    openai: str = "answers"
    anthropic: str = "answers"
    calls: list[str] = field(default_factory=list)
    held: asyncio.Event = field(default_factory=asyncio.Event)

    async def complete(self, request: web.Request) -> web.StreamResponse:
        kind = "openai" if request.path.endswith("completions") else "anthropic"
        self.calls.append(kind)
        mode = self.openai if kind == "openai" else self.anthropic
        if mode == "hangs":
            await self.held.wait()
        if mode.isdigit():
            return web.json_response({"error": "overloaded"}, status=int(mode))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in OPENAI if kind == "openai" else ANTHROPIC:
            await response.write(event)
        if mode == "breaks off":
            assert request.transport is not None
            request.transport.abort()
        return response


OPENAI = (
    b'data: {"choices":[{"delta":{"content":"All "}}]}\n\n',
    b'data: {"choices":[{"delta":{"content":"is well."}}]}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":3}}\n\n',
    b"data: [DONE]\n\n",
)
ANTHROPIC = (
    b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":12}}}\n\n',
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"Second "}}\n\n',
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"opinion."}}\n\n',
    b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":4}}\n\n',
)


@asynccontextmanager
async def model_serving() -> AsyncIterator[tuple[Model, str]]:
    model = Model()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", model.complete)
    app.router.add_post("/v1/messages", model.complete)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield model, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        model.held.set()
        await runner.cleanup()


Ask = Callable[[], Awaitable[tuple[str, str]]]

CASES = {
    "the first answers": ("answers", "answers", "All is well.", "openai"),
    "429 fails over": ("429", "answers", "Second opinion.", "anthropic"),
    "500 fails over": ("500", "answers", "Second opinion.", "anthropic"),
    "a hang fails over": ("hangs", "answers", "Second opinion.", "anthropic"),
    "a broken stream starts over": ("breaks off", "answers", "Second opinion.", "anthropic"),
    "both down is said": (
        "429",
        "503",
        "No language model answered: the providers did not answer. ",
        "offline",
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_scenario_20_the_assistant_fails_over_and_is_honest(
    case: str, platform_environment: dict[str, str], tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    openai, anthropic, text, provider = CASES[case]
    deadline_s = 2
    async with model_serving() as (model, url):
        model.openai, model.anthropic = openai, anthropic
        environ = {
            **platform_environment, "CHAT_PROVIDER": "openai", "OPENAI_API_KEY": "sk-test-openai-key",
            "ANTHROPIC_API_KEY": "sk-ant-test-anthropic", "OPENAI_BASE_URL": url, "ANTHROPIC_BASE_URL": url,
            "ASSISTANT_DEADLINE": f"{deadline_s}s",
        }  # fmt: skip
        async with serving("chat", environ, tmp_path) as chat:
            await answers(http, f"{chat.url}/readyz")
            assert await post(http, chat.url, "Private question", reply=True) == 202
            _, reply = await eventually(http, chat.url, 2)
            assert reply.startswith(text)
            async with http.get(f"{chat.url}{LOBBY}", headers=KEY) as response:
                assert (await response.json())["messages"][1]["provider"] == provider
            async with http.get(f"{chat.url}/metrics") as response:
                metrics = await response.text()
            told = metrics + chat.log.read_text() + repr([s.attributes for s in chat.spans.spans])
            for secret in ("sk-test-openai-key", "sk-ant-test-anthropic", "Private question", text):
                assert secret not in told
            asked = chat.kit.metrics.registry.collect()
            spent_s = sum(
                sample.value
                for metric in asked
                for sample in metric.samples
                if sample.name == "gen_ai_client_operation_duration_seconds_sum"
            )
            assert spent_s < deadline_s
            wanted = "pass" if provider == "openai" else "warn"
            await until(lambda: chat.kit.health.results["assistant:providers"].reading.status.value == wanted)
            if provider == "openai":
                tokens = {"gen_ai_provider_name": "openai", "gen_ai_request_model": "gpt-5-mini"}
                used = [
                    chat.sample("gen_ai_client_tokens_total", {**tokens, "gen_ai_token_type": kind})
                    for kind in ("input", "output")
                ]
                assert used == [11, 3]


def test_what_the_stream_carries_keeps_its_form() -> None:
    posted = Posted(id="1", room="lobby", author="ada", text="hi", reply=True)
    assert msgspec.json.decode(msgspec.json.encode(posted), type=Posted) == posted
