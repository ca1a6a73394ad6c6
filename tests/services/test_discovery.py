"""Instances that come and go by themselves."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp

from services.gateway.service import GatewayService
from tests.services.conftest import Platform, sign_in
from tests.services.running import answers, serving
from tests.services.test_gateway import gateway_before
from tests.waiting import until


def addresses(service: GatewayService, name: str) -> set[str]:
    return {str(instance.upstream.url) for instance in service.pools[name].instances}


async def test_an_instance_that_announces_itself_gets_traffic_and_none_once_it_leaves(
    platform: Platform, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    user = await sign_in(http, platform.url)
    environ = {name: value for name, value in platform.environ.items() if name != "CHAT_URL"}
    async with gateway_before(environ, tmp_path) as (gateway, service):
        await answers(http, f"{gateway.url}/readyz")
        await until(lambda: addresses(service, "chat") == {platform.chat.url})
        async with serving("chat", platform.environ, tmp_path) as second:
            await until(lambda: addresses(service, "chat") == {platform.chat.url, second.url})
            await answers(http, f"{second.url}/readyz")
            instances = service.pools["chat"].instances
            await until(lambda: all(instance.ready for instance in instances))
            for _ in range(6):
                async with http.get(f"{gateway.url}/api/v1/chat/rooms", headers=user.headers) as response:
                    assert response.status == 200
            assert second.series("http_server_request_duration_seconds_count") == 1
            await second.kit.drain()
            leaving = next(i for i in service.pools["chat"].instances if str(i.upstream.url) == second.url)
            await until(lambda: leaving.ready is False)
            assert {service.pools["chat"].choose(0, set()) for _ in range(4)} == {
                i for i in service.pools["chat"].instances if i is not leaving
            }
        await until(lambda: addresses(service, "chat") == {platform.chat.url}, within_s=12)


async def test_tools_find_the_services_by_ping(platform: Platform) -> None:
    import nats

    client = await nats.connect(platform.environ["NATS_URL"])
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    await client.publish("$SRV.PING", reply=inbox)
    instances = {running.kit.settings.instance_id for running in platform.services}
    names: set[str] = set()
    async with asyncio.timeout(5):
        while names != {"gaia-auth", "gaia-asset", "gaia-chat"}:
            pong = json.loads((await subscription.next_msg(timeout=5)).data)
            if pong["metadata"]["instance"] in instances:
                names.add(pong["name"])
    subject = platform.chat.kit.settings.subject("health", "chat")
    answer = json.loads((await client.request(subject, timeout=5)).data)
    await client.close()
    assert answer == {"status": "pass", "output": ""}
