"""Content in an S3-compatible bucket (AWS, Tigris, MinIO, R2), with requests signed here: no SDK."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Final

import aiohttp
from yarl import URL

from services.asset.signature import EMPTY, Credentials, sign
from services.asset.storage import Stored, too_large
from services.instrumentation.client import HttpClient
from services.instrumentation.problem import UnavailableError
from services.instrumentation.redaction import Secret
from services.instrumentation.settings import Settings, SettingsError

_PIECE: Final = 256 * 1024
_IN_MEMORY: Final = 1 << 20
_PUT_S: Final = 60.0
_GET_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Where: path-style addressing works with every implementation."""

    endpoint: URL
    name: str
    prefix: str
    credentials: Credentials


def bucket_from(settings: Settings) -> Bucket:
    """From `ASSET_STORAGE=s3://bucket/prefix` and the usual AWS variables. Raises SettingsError."""
    options = settings.options
    name, _, prefix = options["ASSET_STORAGE"].removeprefix("s3://").partition("/")
    region = options.get("AWS_REGION", "auto")
    key, secret = options.get("AWS_ACCESS_KEY_ID"), options.get("AWS_SECRET_ACCESS_KEY")
    if not name or not key or not secret:
        raise SettingsError(
            "ASSET_STORAGE: s3://bucket/prefix needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY beside it"
        )
    endpoint = options.get("AWS_ENDPOINT_URL_S3", f"https://s3.{region}.amazonaws.com")
    return Bucket(
        endpoint=URL(endpoint),
        name=name,
        prefix=prefix.strip("/"),
        credentials=Credentials(access_key=key, secret_key=Secret(secret), region=region),
    )


class S3Storage:
    """The bucket side of the storage seam."""

    def __init__(self, client: HttpClient, bucket: Bucket) -> None:
        self._client = client
        self._bucket = bucket
        self._upstream = client.upstream("storage", str(bucket.endpoint))

    async def put(self, key: str, pieces: AsyncIterator[bytes], *, limit_bytes: int) -> Stored:
        # The checksum is signed before the first byte leaves, so the content is spooled first: what arrives
        # at the bucket is then exactly what the client sent, or nothing.
        digest = hashlib.sha256()
        size = 0
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as spool:
            async for piece in pieces:
                size += len(piece)
                if size > limit_bytes:
                    raise too_large(limit_bytes)
                digest.update(piece)
                spool.write(piece)
            spool.seek(0)
            sha256 = digest.hexdigest()
            headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
            async with self._call(
                "PUT", key, headers=headers, payload=sha256, data=_read(spool), limit_s=_PUT_S
            ) as response:
                _expect(response, 200)
        return Stored(size, sha256)

    async def get(self, key: str, *, start: int, length: int) -> AsyncIterator[bytes]:
        if length == 0:
            return
        headers = {"Range": f"bytes={start}-{start + length - 1}"}
        async with self._call("GET", key, headers=headers) as response:
            if response.status == 404:
                raise KeyError(key)
            _expect(response, 206)
            left = length
            try:
                async for piece in response.content.iter_chunked(_PIECE):
                    left -= len(piece)
                    yield piece
            except (aiohttp.ClientError, TimeoutError) as error:
                raise UnavailableError("the storage broke off", reason="storage_unavailable") from error
            if left:
                raise UnavailableError("the content is shorter than it was", reason="content_damaged")

    async def delete(self, key: str) -> None:
        async with self._call("DELETE", key) as response:
            _expect(response, 204, 200, 404)

    async def check(self) -> None:
        async with self._call("HEAD", "") as response:
            _expect(response, 200)

    @asynccontextmanager
    async def _call(
        self,
        method: str,
        key: str,
        *,
        headers: Mapping[str, str] | None = None,
        payload: str = EMPTY,
        data: AsyncIterator[bytes] | None = None,
        limit_s: float = _GET_S,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        bucket = self._bucket
        path = "/" + "/".join(part for part in (bucket.name, bucket.prefix if key else "", key) if part)
        url = bucket.endpoint.with_path(path)
        signed = sign(
            bucket.credentials,
            method=method,
            path=path,
            query={},
            headers={"Host": url.raw_authority, **(headers or {})},
            payload=payload,
            at=datetime.now(UTC),
        )
        async with self._client.call(
            self._upstream, method, url, headers=signed, data=data, timeout_s=limit_s
        ) as response:
            yield response


async def _read(spool: IO[bytes]) -> AsyncIterator[bytes]:
    while piece := spool.read(_PIECE):
        yield piece


def _expect(response: aiohttp.ClientResponse, *statuses: int) -> None:
    if response.status not in statuses:
        raise UnavailableError(f"the storage answered {response.status}", reason="storage_unavailable")
