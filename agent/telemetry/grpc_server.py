"""OTLP over gRPC, for emitters that speak nothing else: the same intake behind another door.

Needs the extra `grpc` (12 MiB of memory), which is imported when a server is opened and not before. Requests
pass as bytes: no stubs. What may be sent again carries a RetryInfo, because clients drop a RESOURCE_EXHAUSTED
without one (opentelemetry-proto, specification.md, "OTLP/gRPC Throttling").
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Protocol

from agent.telemetry import answers
from agent.telemetry.signals import Rejected, Signal
from checks.secret import Secret

if TYPE_CHECKING:
    import grpc  # type: ignore[import-untyped]  # ships no types

logger = logging.getLogger(__name__)

# A body's bytes kept; how many of its items were invalid and left out. Raises Rejected and OSError.
Accept = Callable[[Signal, bytes], Awaitable[int]]


class Limit(Protocol):
    """Counts `size` bytes of a client; without any, raises Rejected 429 while it owes."""

    def __call__(self, client: str, /, *, size: int = 0) -> None: ...


_SERVICES: Final = {
    Signal.TRACES: "opentelemetry.proto.collector.trace.v1.TraceService",
    Signal.METRICS: "opentelemetry.proto.collector.metrics.v1.MetricsService",
    Signal.LOGS: "opentelemetry.proto.collector.logs.v1.LogsService",
}
_MAX_CALLS: Final = 512
_GRACE_S: Final = 5.0
_REMEDY: Final = "needs the extra `grpc`: pip install 'gaia-agent[grpc]', or take the key out"


class GrpcMissingError(Exception):
    """The extra is not installed; the text says what to install."""


class GrpcServer:
    """Listens until closed. `in_flight` is asked for room for a body: False while there is too much."""

    def __init__(
        self,
        accept: Accept,
        *,
        limit: Limit,
        token: Secret | None,
        request_bytes: int,
        in_flight_bytes: int,
    ) -> None:
        self._accept = accept
        self._limit = limit
        self._token = token
        self._request_bytes = request_bytes
        self._budget = in_flight_bytes
        self._in_flight = 0
        self._server: grpc.aio.Server | None = None

    async def open(self, address: str) -> int:
        """Listen; the port that was taken. Raises GrpcMissingError and OSError."""
        require_grpc()
        import grpc

        server = grpc.aio.server(
            options=(
                ("grpc.max_receive_message_length", self._request_bytes),
                ("grpc.so_reuseport", 0),
                ("grpc.max_metadata_size", 16 * 1024),
            ),
            compression=grpc.Compression.NoCompression,
            maximum_concurrent_rpcs=_MAX_CALLS,
        )
        for signal, service in _SERVICES.items():
            method = grpc.unary_unary_rpc_method_handler(self._handler(signal))
            handlers = grpc.method_handlers_generic_handler(service, {"Export": method})
            server.add_generic_rpc_handlers((handlers,))
        try:
            port = server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}") from error
        await server.start()
        self._server = server
        return int(port)

    async def close(self) -> None:
        """Stop listening; let running calls finish."""
        if self._server is not None:
            await self._server.stop(_GRACE_S)

    def _handler(self, signal: Signal) -> Callable[[bytes, Any], Awaitable[bytes]]:
        async def export(body: bytes, context: Any) -> bytes:
            try:
                return await self._answer(signal, body, context)
            except Rejected as rejected:
                refusal = rejected
            except OSError as error:
                logger.warning("telemetry.log_failed", extra={"error": str(error)})
                refusal = Rejected(503, "the disk cannot take it now", retry_after_s=1)
            except Exception as error:
                logger.exception("telemetry.answer_failed", extra={"error": repr(error)})
                refusal = Rejected(503, "the agent failed", retry_after_s=1)
            await _refuse(context, refusal)
            raise AssertionError("abort raises")

        return export

    async def _answer(self, signal: Signal, body: bytes, context: Any) -> bytes:
        self._admit(context)
        client = _address(context.peer())
        self._limit(client)
        self._limit(client, size=len(body))
        # A request alone may always use its own limit.
        if self._in_flight and self._in_flight + len(body) > self._budget:
            raise Rejected(503, "too much is in flight: send it again in a moment", retry_after_s=1)
        self._in_flight += len(body)
        try:
            invalid = await self._accept(signal, body)
        finally:
            self._in_flight -= len(body)
        if not invalid:
            return answers.success(json=False)
        return answers.partial(signal, invalid, answers.invalid_text(invalid), json=False)

    def _admit(self, context: Any) -> None:
        if self._token is None:
            return
        given = dict(context.invocation_metadata()).get("authorization", "")
        text = str(given).removeprefix("Bearer ").encode("utf-8", "replace")
        if not hmac.compare_digest(text, self._token.reveal().encode()):
            raise Rejected(401, "a bearer token is needed")


def require_grpc() -> None:
    """Raise GrpcMissingError where the extra is not installed."""
    if find_spec("grpc") is None:
        raise GrpcMissingError(f"agent.otlp_grpc_listen {_REMEDY}")


def _address(peer: str) -> str:
    """The client's address from gRPC's `ipv4:127.0.0.1:4711` or `ipv6:%5B::1%5D:4711`."""
    return peer.partition(":")[2].rpartition(":")[0] or peer


async def _refuse(context: Any, rejected: Rejected) -> None:
    import grpc

    number = answers.rpc_code(rejected.status)
    code = next(code for code in grpc.StatusCode if code.value[0] == number)
    details = answers.rpc_status(rejected.status, rejected.text, retry_after_s=rejected.retry_after_s)
    await context.abort(code, rejected.text, (("grpc-status-details-bin", details),))
