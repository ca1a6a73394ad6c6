"""Assets: what is stored is what was sent, for its owner only, or nothing at all."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from services.asset import service as asset_service
from tests.services.conftest import Platform, sign_in
from tests.waiting import until

CONTENT = bytes(range(256)) * 1000


async def upload(http: aiohttp.ClientSession, platform: Platform, headers: dict[str, str]) -> str:
    async with http.post(
        f"{platform.url}/api/v1/assets?name=a.bin", data=CONTENT, headers=headers
    ) as response:
        assert response.status == 201
        return str((await response.json())["id"])


def files(platform: Platform) -> list[Path]:
    return [path for path in Path(platform.environ["ASSET_STORAGE"]).rglob("*") if path.is_file()]


async def test_ranges_etags_and_heads_describe_the_same_content(
    platform: Platform, http: aiohttp.ClientSession
) -> None:
    user = await sign_in(http, platform.url)
    url = f"{platform.url}/api/v1/assets/{await upload(http, platform, user.headers)}/content"
    etag = f'"{hashlib.sha256(CONTENT).hexdigest()}"'
    async with http.get(url, headers=user.headers) as response:
        assert (response.status, await response.read()) == (200, CONTENT)
        assert response.headers["ETag"] == etag
        assert response.headers["Content-Disposition"] == "attachment"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
    async with http.get(url, headers={**user.headers, "Range": "bytes=-3"}) as response:
        assert (response.status, await response.read()) == (206, CONTENT[-3:])
        assert response.headers["Content-Range"] == f"bytes 255997-255999/{len(CONTENT)}"
    async with http.get(url, headers={**user.headers, "Range": "bytes=999999-"}) as response:
        assert (response.status, response.headers["Content-Range"]) == (416, f"bytes */{len(CONTENT)}")
    async with http.get(url, headers={**user.headers, "If-None-Match": etag}) as response:
        assert (response.status, await response.read()) == (304, b"")
    async with http.get(url, headers={**user.headers, "Range": "bytes=0-1", "If-Range": '"old"'}) as response:
        assert (response.status, await response.read()) == (200, CONTENT)
    async with http.head(url, headers=user.headers) as response:
        assert (response.status, response.content_length) == (200, len(CONTENT))


async def test_an_asset_is_invisible_to_everybody_else(
    platform: Platform, http: aiohttp.ClientSession
) -> None:
    ada, bob = await sign_in(http, platform.url), await sign_in(http, platform.url, "bob@example.com")
    url = f"{platform.url}/api/v1/assets/{await upload(http, platform, ada.headers)}"
    for method, path in (("GET", url), ("GET", f"{url}/content"), ("DELETE", url)):
        async with http.request(method, path, headers=bob.headers) as response:
            assert response.status == 404
    async with http.get(f"{platform.url}/api/v1/assets", headers=bob.headers) as response:
        assert (await response.json())["assets"] == []
    async with http.delete(url, headers=ada.headers) as response:
        assert response.status == 204
    assert files(platform) == []


async def test_too_much_the_wrong_checksum_and_bad_names_leave_nothing_behind(
    platform: Platform, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asset_service, "_LIMIT_BYTES", 1000)
    user = await sign_in(http, platform.url)
    url = f"{platform.url}/api/v1/assets"

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b"x" * 100

    attempts = (
        ({"data": b"x" * 1001}, 413),
        ({"data": endless()}, 413),
        ({"data": b"x", "headers": {"X-Content-SHA256": "0" * 64}}, 422),
        ({"data": b"x", "params": {"name": "../../etc/passwd"}}, 422),
        ({"data": b"x", "headers": {"Content-Type": "nonsense"}}, 415),
    )
    for options, expected in attempts:
        headers = {**user.headers, **options.pop("headers", {})}  # type: ignore[dict-item]
        async with http.post(url, headers=headers, **options) as response:
            assert response.status == expected, await response.text()
    assert files(platform) == []


async def test_an_upload_that_breaks_off_leaves_nothing_behind(
    platform: Platform, http: aiohttp.ClientSession
) -> None:
    user = await sign_in(http, platform.url)
    started = asyncio.Event()

    async def broken() -> AsyncIterator[bytes]:
        yield CONTENT
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(
        http.post(f"{platform.url}/api/v1/assets", data=broken(), headers=user.headers)
    )
    await started.wait()
    await until(lambda: files(platform))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await until(lambda: files(platform) == [])
    where = {"upstream": "asset", "server_address": platform.asset.url.removeprefix("http://")}
    assert platform.gateway.sample("circuit_breaker_state", where) == 0


async def test_every_change_is_an_event(platform: Platform, http: aiohttp.ClientSession) -> None:
    import nats

    client = await nats.connect(platform.environ["NATS_URL"])
    subject = platform.asset.kit.settings.subject("asset", "*")
    subscription = await client.subscribe(subject)
    await client.flush()
    user = await sign_in(http, platform.url)
    asset = await upload(http, platform, user.headers)
    async with http.delete(f"{platform.url}/api/v1/assets/{asset}", headers=user.headers):
        pass
    told = [(await subscription.next_msg(timeout=5)).subject.rpartition(".")[2] for _ in range(2)]
    await client.close()
    assert told == ["created", "deleted"]
