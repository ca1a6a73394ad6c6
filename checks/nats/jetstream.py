"""What JetStream says of itself: /jsz of each server, or its API where there is no monitoring port."""

from __future__ import annotations

import json
from typing import Final

import msgspec
from msgspec import Struct

from checks.nats.link import Link
from checks.small_get import SmallGet

JSZ: Final = "/jsz?accounts=true&streams=true&consumers=true&config=true&limit=1024"
_LISTED: Final = 1024
DISABLED: Final = (10076,)
NOT_FOR_ACCOUNT: Final = (10039, 10035)
NO_QUORUM: Final = (10008, 10009)


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Another member of a RAFT group, as its leader sees it. `active` is nanoseconds since it was heard."""

    name: str = ""
    current: bool = False
    active: int = 0
    lag: int = 0
    offline: bool = False


class Group(msgspec.Struct, frozen=True, kw_only=True):
    leader: str = ""
    cluster_size: int = 0
    replicas: tuple[Peer, ...] = ()


class StreamConfig(msgspec.Struct, frozen=True, kw_only=True):
    name: str = ""
    max_msgs: int = -1
    max_bytes: int = -1
    discard: str = "old"
    storage: str = "file"
    num_replicas: int = 1
    metadata: dict[str, str] = {}


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    messages: int = 0
    bytes: int = 0
    first_seq: int = 0
    last_seq: int = 0
    num_subjects: int = 0


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """How far a consumer is; `last_active` is RFC 3339, empty when it never moved."""

    consumer_seq: int = 0
    stream_seq: int = 0
    last_active: str = ""


class ConsumerConfig(msgspec.Struct, frozen=True, kw_only=True):
    max_ack_pending: int = 0
    max_deliver: int = -1
    metadata: dict[str, str] = {}


class Consumer(msgspec.Struct, frozen=True, kw_only=True):
    """One consumer; the counts are its leader's."""

    name: str
    stream_name: str = ""
    config: ConsumerConfig = ConsumerConfig()
    delivered: Position = Position()
    ack_floor: Position = Position()
    num_ack_pending: int = 0
    num_redelivered: int = 0
    num_waiting: int = 0
    num_pending: int = 0
    cluster: Group | None = None


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A stream this one copies from. `active` is nanoseconds since it was heard, -1 for never."""

    name: str = ""
    lag: int = 0
    active: int = 0


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """One stream as one server sees it. `created` is RFC 3339."""

    name: str = ""
    created: str = ""
    config: StreamConfig = StreamConfig()
    state: StreamState = StreamState()
    cluster: Group | None = None
    consumers: tuple[Consumer, ...] = msgspec.field(default=(), name="consumer_detail")
    mirror: Source | None = None
    sources: tuple[Source, ...] = ()

    @property
    def called(self) -> str:
        return self.name or self.config.name


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """One account's use. What it has reserved is its limit; all ones (2^64 - 1) means that it has none."""

    name: str = ""
    memory: int = 0
    storage: int = 0
    reserved_memory: int = 0
    reserved_storage: int = 0
    streams: tuple[Stream, ...] = msgspec.field(default=(), name="stream_detail")


class Config(msgspec.Struct, frozen=True, kw_only=True):
    max_storage: int = 0
    store_dir: str = ""


class Jsz(msgspec.Struct, frozen=True, kw_only=True):
    """One server's /jsz."""

    disabled: bool = False
    storage: int = 0
    config: Config = Config()
    meta_cluster: Group | None = None
    accounts: tuple[Account, ...] = msgspec.field(default=(), name="account_details")


class ApiError(msgspec.Struct, frozen=True, kw_only=True):
    code: int = 0
    err_code: int = 0
    description: str = ""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    max_memory: int = -1
    max_storage: int = -1
    max_streams: int = -1
    max_consumers: int = -1


class AccountInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Our own account's use and limits; `error` when JetStream refuses to say."""

    memory: int = 0
    storage: int = 0
    streams: int = 0
    consumers: int = 0
    limits: Limits = Limits()
    error: ApiError | None = None


class _StreamList(msgspec.Struct, frozen=True, kw_only=True):
    streams: tuple[Stream, ...] | None = None
    error: ApiError | None = None


class _ConsumerList(msgspec.Struct, frozen=True, kw_only=True):
    consumers: tuple[Consumer, ...] | None = None
    error: ApiError | None = None


class PublishAck(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a message published to a stream."""

    stream: str = ""
    seq: int = 0
    error: ApiError | None = None


class Seen(Struct, frozen=True, kw_only=True):
    """One stream of one account on one server; `server` is empty when the API told it."""

    account: str
    server: str
    stream: Stream


async def account_info(link: Link) -> AccountInfo:
    """Raises as Link.request. Nobody listening means that JetStream is off."""
    reply = await link.request("$JS.API.INFO")
    if reply.status:
        return AccountInfo(
            error=ApiError(code=reply.status, err_code=DISABLED[0], description="no responders")
        )
    return msgspec.json.decode(reply.data, type=AccountInfo)


async def streams_by_api(link: Link) -> tuple[Seen, ...]:
    """Streams and consumers of our own account, at most 1024. Raises as Link.request."""
    found: list[Seen] = []
    while len(found) < _LISTED:
        asked = json.dumps({"offset": len(found)}).encode()
        reply = await link.request("$JS.API.STREAM.LIST", asked)
        page = msgspec.json.decode(reply.data or b"{}", type=_StreamList).streams or ()
        for stream in page:
            listed = await link.request(f"$JS.API.CONSUMER.LIST.{stream.called}", b'{"offset":0}')
            consumers = msgspec.json.decode(listed.data or b"{}", type=_ConsumerList).consumers or ()
            whole = msgspec.structs.replace(stream, consumers=consumers)
            found.append(Seen(account="", server="", stream=whole))
        if not page:
            break
    return tuple(found)


async def read_jsz(monitor: SmallGet) -> Jsz:
    """Raises OSError or ValueError."""
    answer = await monitor.get(JSZ)
    return msgspec.json.decode(answer.body, type=Jsz)
