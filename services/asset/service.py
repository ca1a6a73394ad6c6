"""The asset service: upload, list, download in ranges, delete; each change is an event on NATS."""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import web

from services.asset.ranges import Span, UnsatisfiableRangeError, parse_range
from services.asset.s3 import S3Storage, bucket_from
from services.asset.storage import DirectoryStorage, Storage, too_large
from services.instrumentation.authentication import Authenticator, caller, remote_verifier
from services.instrumentation.body import body_pieces
from services.instrumentation.client import HttpClient
from services.instrumentation.database import Database, Row
from services.instrumentation.health import Criticality, Dependency, Reading, Status
from services.instrumentation.kit import Instrumentation
from services.instrumentation.messaging import Broker
from services.instrumentation.problem import ProblemError, UnavailableError
from services.instrumentation.registration import Registration
from services.instrumentation.routes import Operation, answer, application
from services.instrumentation.settings import SettingsError

logger = logging.getLogger(__name__)

_PREFIX: Final = "/api/v1/assets"
_LIMIT_BYTES: Final = 64 * 1024 * 1024
_PAGE: Final = 100
_EVENTS: Final = "gaia.{env}.asset.{event}"
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f/\\]{1,200}")
_TYPE: Final = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,60}")
# Types a browser may show; everything else is a download, so that an uploaded page never runs in our name.
_INLINE: Final = frozenset(
    ("image/png", "image/jpeg", "image/gif", "image/webp", "text/plain", "application/pdf")
)


class AssetAnswer(msgspec.Struct, frozen=True):
    id: str
    name: str
    content_type: str
    size_bytes: int
    sha256: str
    created_at: datetime


class AssetsAnswer(msgspec.Struct, frozen=True):
    assets: tuple[AssetAnswer, ...]


class AssetEvent(msgspec.Struct, frozen=True):
    """Told on `gaia.{env}.asset.created` and `.deleted`."""

    id: str
    owner: str
    size_bytes: int
    sha256: str


class AssetService:
    """Handlers over the metadata and the storage."""

    def __init__(self, kit: Instrumentation) -> None:
        self._kit = kit
        self._database = Database(kit, schema="asset", migrations=Path(__file__).with_name("migrations"))
        self._broker = Broker(kit, criticality=Criticality.DEGRADED)
        Registration(kit, self._broker)
        client = HttpClient(kit)
        self._storage = storage_from(kit, client)
        self._authenticator = Authenticator(kit, remote_verifier(kit, client, self._broker))
        self._stored = kit.metrics.counter("asset_stored_bytes_total", "Bytes uploaded.")
        self._served = kit.metrics.counter("asset_served_bytes_total", "Bytes downloaded.")
        kit.depends_on(
            Dependency(
                name="storage:access",
                component_type="datastore",
                criticality=Criticality.REQUIRED,
                probe=self._check_storage,
                own=True,
            )
        )

    def application(self) -> web.Application:
        guard = self._authenticator.middleware
        return application(self._kit, "Gaia assets", self.operations(), guard=guard)

    def operations(self) -> tuple[Operation, ...]:
        one = f"{_PREFIX}/{{asset_id}}"
        return (
            Operation(
                method="POST",
                path=_PREFIX,
                handler=self._upload,
                binary="in",
                returns=AssetAnswer,
                status=201,
                summary="Upload: the body is the content.",
                query=(("name", "the file's name"),),
            ),
            Operation(
                method="GET",
                path=_PREFIX,
                handler=self._list,
                returns=AssetsAnswer,
                summary="The caller's newest assets.",
                query=(("before", "list those older than this asset"),),
            ),
            Operation(
                method="GET", path=one, handler=self._show, returns=AssetAnswer, summary="One asset's facts."
            ),
            Operation(
                method="GET",
                path=f"{one}/content",
                handler=self._download,
                binary="out",
                summary="The content, or the range asked for.",
            ),
            Operation(
                method="HEAD",
                path=f"{one}/content",
                handler=self._download,
                summary="Size and checksum only.",
            ),
            Operation(
                method="DELETE", path=one, handler=self._delete, status=204, summary="Delete an asset."
            ),
        )

    async def _upload(self, request: web.Request) -> web.Response:
        owner = caller().subject
        name = request.query.get("name", "unnamed")
        if not _NAME.fullmatch(name):
            raise ProblemError(
                422, "a name has 1 to 200 characters, none of them a slash", reason="invalid_name"
            )
        content_type = (
            request.headers.get("Content-Type", "application/octet-stream").partition(";")[0].strip()
        )
        if not _TYPE.fullmatch(content_type):
            raise ProblemError(415, "the Content-Type is malformed", reason="unsupported_media_type")
        if (request.content_length or 0) > _LIMIT_BYTES:
            raise too_large(_LIMIT_BYTES)
        asset_id = uuid.uuid4()
        stored = await self._storage.put(str(asset_id), body_pieces(request), limit_bytes=_LIMIT_BYTES)
        try:
            _check_digest(request, stored.sha256)
            row = await self._database.fetchrow(
                "insert into assets (id, owner, name, content_type, size_bytes, sha256) "
                "values ($1, $2, $3, $4, $5, $6) returning *",
                asset_id,
                owner,
                name,
                content_type,
                stored.size_bytes,
                stored.sha256,
            )
        except BaseException:
            # Content without a row would never be found again.
            await asyncio.shield(self._storage.delete(str(asset_id)))
            raise
        assert row is not None
        self._stored.inc(stored.size_bytes)
        await self._tell("created", row)
        return answer(_asset(row), 201)

    async def _list(self, request: web.Request) -> web.Response:
        before = request.query.get("before")
        if before is None:
            rows = await self._database.fetch(
                "select * from assets where owner = $1 order by created_at desc, id limit $2",
                caller().subject,
                _PAGE,
            )
        else:
            row = await self._find(before)
            rows = await self._database.fetch(
                "select * from assets where owner = $1 and created_at < $2 "
                "order by created_at desc, id limit $3",
                caller().subject,
                row["created_at"],
                _PAGE,
            )
        return answer(AssetsAnswer(tuple(_asset(row) for row in rows)))

    async def _show(self, request: web.Request) -> web.Response:
        return answer(_asset(await self._find(request.match_info["asset_id"])))

    async def _download(self, request: web.Request) -> web.StreamResponse:
        row = await self._find(request.match_info["asset_id"])
        size, etag = row["size_bytes"], f'"{row["sha256"]}"'
        headers = {
            "Accept-Ranges": "bytes",
            "ETag": etag,
            "Content-Type": row["content_type"],
            "Content-Disposition": "inline" if row["content_type"] in _INLINE else "attachment",
            "X-Content-Type-Options": "nosniff",
        }
        if etag in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=headers)
        asked = request.headers.get("Range")
        if request.headers.get("If-Range", etag) != etag:
            asked = None
        try:
            span = parse_range(asked, size)
        except UnsatisfiableRangeError:
            raise ProblemError(
                416,
                f"the content has {size} bytes",
                reason="range",
                headers={"Content-Range": f"bytes */{size}"},
            ) from None
        if span is not None:
            headers["Content-Range"] = span.content_range(size)
        return await self._stream(request, str(row["id"]), span or Span(0, size), headers)

    async def _stream(
        self, request: web.Request, key: str, span: Span, headers: dict[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=206 if "Content-Range" in headers else 200, headers=headers)
        response.content_length = span.length
        if request.method == "HEAD":
            await response.prepare(request)
            return response
        pieces = self._storage.get(key, start=span.start, length=span.length)
        try:
            async for piece in pieces:
                if not response.prepared:
                    await response.prepare(request)
                await response.write(piece)
        except KeyError:
            raise UnavailableError("the content is missing", reason="content_damaged") from None
        if not response.prepared:
            await response.prepare(request)
        await response.write_eof()
        self._served.inc(span.length)
        return response

    async def _delete(self, request: web.Request) -> web.Response:
        row = await self._find(request.match_info["asset_id"])
        await self._database.execute("delete from assets where id = $1", row["id"])
        await self._storage.delete(str(row["id"]))
        await self._tell("deleted", row)
        return web.Response(status=204)

    async def _find(self, text: str) -> Row:
        """The caller's asset. Raises ProblemError 404, for another owner's too."""
        try:
            asset_id = uuid.UUID(text)
        except ValueError:
            raise ProblemError(404, "there is no such asset", reason="not_found") from None
        row = await self._database.fetchrow("select * from assets where id = $1", asset_id)
        identity = caller()
        if row is None or (row["owner"] != identity.subject and not identity.may("admin")):
            raise ProblemError(404, "there is no such asset", reason="not_found")
        return row

    async def _tell(self, event: str, row: Row) -> None:
        body = AssetEvent(str(row["id"]), row["owner"], row["size_bytes"], row["sha256"])
        try:
            await self._broker.publish(
                self._kit.settings.subject("asset", event), msgspec.json.encode(body), template=_EVENTS
            )
        except UnavailableError:
            # The asset is stored; whoever listens for events must also be able to list.
            logger.warning("asset.event_lost", extra={"asset_event": event, "asset": str(row["id"])})

    async def _check_storage(self) -> Reading:
        await self._storage.check()
        return Reading(status=Status.PASS)


def storage_from(kit: Instrumentation, client: HttpClient) -> Storage:
    """The storage in `ASSET_STORAGE`: a directory, or a bucket. Raises SettingsError."""
    place = kit.settings.options.get("ASSET_STORAGE")
    if not place:
        raise SettingsError("ASSET_STORAGE: not set: a directory, or s3://bucket/prefix")
    if place.startswith("s3://"):
        return S3Storage(client, bucket_from(kit.settings))
    return DirectoryStorage(Path(place))


def _asset(row: Row) -> AssetAnswer:
    return AssetAnswer(
        str(row["id"]), row["name"], row["content_type"], row["size_bytes"], row["sha256"], row["created_at"]
    )


def _check_digest(request: web.Request, sha256: str) -> None:
    """Compare with `X-Content-SHA256`, where the client sent one."""
    expected = request.headers.get("X-Content-SHA256")
    if expected is not None and expected.lower() != sha256:
        raise ProblemError(
            422, "the content does not have the checksum sent with it", reason="checksum_mismatch"
        )
