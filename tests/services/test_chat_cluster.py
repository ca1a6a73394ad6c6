"""Production's chat: a stream on three servers, of which one dies under writes."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from pathlib import Path

import aiohttp
import asyncpg
import msgspec
import nats
import pytest

from agent.local.nats import LocalNats
from services.chat.delivery import Posted
from tests.servers import nats_cluster
from tests.services.running import PLATFORM_KEY, answers, environment, serving
from tests.waiting import until

KEY = {"X-API-Key": PLATFORM_KEY}
LOBBY = "/api/v1/chat/rooms/lobby"


class Writers:
    """Clients that post until told to stop, and repeat what was not accepted, under the same id."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = f"{url}{LOBBY}/messages"
        self.accepted: list[str] = []
        self.refused: Counter[int] = Counter()
        self.stopping = asyncio.Event()

    async def write(self) -> None:
        while not self.stopping.is_set():
            number = str(uuid.uuid4())
            # A client's pause, not a wait for something of ours.
            while await self._post(number) != 202:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            self.accepted.append(number)

    async def _post(self, number: str) -> int:
        body = {"text": number, "id": number}
        async with self._http.post(self._url, json=body, headers=KEY) as response:
            if response.status != 202:
                self.refused[response.status] += 1
            return response.status

    async def more(self, count: int) -> None:
        wanted = len(self.accepted) + count
        await until(lambda: len(self.accepted) >= wanted, within_s=60)


async def leader(servers: list[LocalNats], stream: str) -> LocalNats:
    """The server that leads `stream`."""
    client = await nats.connect([server.url for server in servers])
    info = await client.jetstream().stream_info(stream)
    await client.close()
    assert info.cluster is not None
    assert info.config.num_replicas == 3
    return next(server for number, server in enumerate(servers, 1) if f"n{number}" == info.cluster.leader)


async def in_stream(servers: list[LocalNats], stream: str, subject: str) -> Counter[str]:
    """How often each message id is in the stream."""
    client = await nats.connect([server.url for server in servers])
    jetstream = client.jetstream()
    count = (await jetstream.stream_info(stream)).state.messages
    subscription = await jetstream.subscribe(subject, ordered_consumer=True)
    found: Counter[str] = Counter()
    for _ in range(count):
        message = await subscription.next_msg(timeout=10)
        found[msgspec.json.decode(message.data, type=Posted).id] += 1
    await client.close()
    return found


async def stored(database_url: str, count: int) -> Counter[str]:
    """How often each text is in the database, once there are `count` messages."""
    connection = await asyncpg.connect(database_url)
    async with asyncio.timeout(60):
        # Another process's work: there is no event to wait for.
        while await connection.fetchval("select count(*) from chat.messages") < count:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    rows = await connection.fetch("select text from chat.messages")
    await connection.close()
    return Counter(row["text"] for row in rows)


@pytest.mark.parametrize("which", ["the stream's leader", "a follower"])
async def test_a_killed_server_of_three_loses_and_doubles_no_accepted_message(
    which: str, database_url: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with nats_cluster(tmp_path) as servers:
        environ = environment(
            DATABASE_URL=database_url, NATS_URL=",".join(server.url for server in servers), NATS_REPLICAS="3",
            DATABASE_POOL_MAX="8",
        )  # fmt: skip
        async with serving("chat", environ, tmp_path) as chat:
            await answers(http, f"{chat.url}/readyz", within_s=30)
            writers = Writers(http, chat.url)
            await until(lambda: chat.kit.health.not_started() is None)
            tasks = [asyncio.create_task(writers.write()) for _ in range(8)]
            await writers.more(50)
            stream = chat.kit.settings.stream("CHAT")
            first = await leader(servers, stream)
            killed = first if which == "the stream's leader" else next(s for s in servers if s is not first)
            killed.kill()
            await writers.more(200)
            # It comes back with an older state, catches up, and takes part again.
            await killed.start_async(within_s=30)
            await writers.more(100)
            writers.stopping.set()
            await asyncio.gather(*tasks)
            accepted = writers.accepted
            assert await stored(database_url, len(accepted)) == Counter(accepted)
            subject = chat.kit.settings.subject("chat", ">")
            assert await in_stream(servers, stream, subject) == Counter(accepted)
            # What was not accepted was refused as unavailable, never as an error.
            assert set(writers.refused) <= {503}
