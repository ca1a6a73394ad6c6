"""Content in a bucket: requests signed as AWS wants them, the same promises as on disk."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from services.asset.ranges import parse_range
from services.asset.s3 import bucket_from
from services.asset.signature import EMPTY, Credentials, sign
from services.instrumentation.redaction import Secret
from services.instrumentation.settings import Settings, SettingsError
from tests.services.running import PLATFORM_KEY, answers, serving

KEY = {"X-API-Key": PLATFORM_KEY}
CREDENTIALS = Credentials(
    access_key="AKIDEXAMPLE", secret_key=Secret("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
    region="us-east-1", service="service",
)  # fmt: skip


@pytest.mark.parametrize(
    ("path", "query", "signature"),
    [
        # get-vanilla, get-vanilla-query-order-key-case of AWS's own test suite.
        ("/", {}, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        (
            "/",
            {"Param2": "value2", "Param1": "value1"},
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
    ],
)
def test_a_signature_is_that_of_awss_test_suite(path: str, query: dict[str, str], signature: str) -> None:
    signed = sign(
        CREDENTIALS, method="GET", path=path, query=query, payload=EMPTY,
        headers={"Host": "example.amazonaws.com"},
        at=datetime(2015, 8, 30, 12, 36, 0, tzinfo=UTC),
    )  # fmt: skip
    assert signed["Authorization"].endswith(f"SignedHeaders=host;x-amz-date, Signature={signature}")


class Bucket:
    """A bucket that checks signatures and checksums as S3 does."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.broken = False
        self.credentials = Credentials(access_key="id", secret_key=Secret("bucket-secret-key"), region="auto")

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if self.broken:
            return web.Response(status=503)
        if (
            not self._signed(request)
            or hashlib.sha256(body).hexdigest() != request.headers["x-amz-content-sha256"]
        ):
            return web.Response(status=403)
        name = request.path
        if request.method == "PUT":
            self.objects[name] = body
            return web.Response()
        if request.method == "HEAD":
            return web.Response(status=200 if name == "/assets" else 404)
        if request.method == "DELETE":
            self.objects.pop(name, None)
            return web.Response(status=204)
        if name not in self.objects:
            return web.Response(status=404)
        span = parse_range(request.headers.get("Range"), len(self.objects[name]))
        assert span is not None
        return web.Response(status=206, body=self.objects[name][span.start : span.start + span.length])

    def _signed(self, request: web.Request) -> bool:
        match = re.search(r"SignedHeaders=([^,]+), Signature", request.headers.get("Authorization", ""))
        if match is None:
            return False
        ours = {"x-amz-date", "x-amz-content-sha256"}
        again = sign(
            self.credentials, method=request.method, path=request.path, query=dict(request.query),
            headers={name: request.headers[name] for name in match[1].split(";") if name not in ours},
            payload=request.headers["x-amz-content-sha256"],
            at=datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC),
        )  # fmt: skip
        return again["Authorization"] == request.headers["Authorization"]


@asynccontextmanager
async def bucket_serving() -> AsyncIterator[tuple[Bucket, str]]:
    bucket = Bucket()
    app = web.Application(client_max_size=0)
    app.router.add_route("*", "/{path:.*}", bucket.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield bucket, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_an_asset_lives_in_the_bucket_and_a_broken_bucket_is_503(
    platform_environment: dict[str, str], tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    content = bytes(range(256)) * 10_000
    async with bucket_serving() as (bucket, url):
        environ = {
            **platform_environment, "ASSET_STORAGE": "s3://assets/prod", "AWS_ENDPOINT_URL_S3": url,
            "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "bucket-secret-key",
        }  # fmt: skip
        async with serving("asset", environ, tmp_path) as asset:
            await answers(http, f"{asset.url}/readyz")
            async with http.post(f"{asset.url}/api/v1/assets", data=content, headers=KEY) as response:
                assert response.status == 201, await response.text()
                number = (await response.json())["id"]
            assert bucket.objects == {f"/assets/prod/{number}": content}
            one = f"{asset.url}/api/v1/assets/{number}"
            async with http.get(f"{one}/content", headers={**KEY, "Range": "bytes=1-2559999"}) as response:
                assert (response.status, await response.read()) == (206, content[1:])
            bucket.broken = True
            async with http.post(f"{asset.url}/api/v1/assets", data=b"x", headers=KEY) as response:
                assert response.status == 503
            bucket.broken = False
            async with http.delete(one, headers=KEY) as response:
                assert response.status == 204
            assert bucket.objects == {}
            assert "bucket-secret-key" not in asset.log.read_text()


def test_a_bucket_without_keys_is_refused_in_one_sentence() -> None:
    with pytest.raises(SettingsError, match=r"needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        bucket_from(Settings.from_environment("asset", {"ASSET_STORAGE": "s3://assets"}))
