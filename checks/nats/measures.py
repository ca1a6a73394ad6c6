"""Every series the `nats` check may emit."""

from __future__ import annotations

from typing import Final

from checks.catalog import MeasureInfo


def _gauge(name: str, text: str, *labels: str) -> MeasureInfo:
    return MeasureInfo(name=f"gaia_nats_{name}", type="gauge", help=text, labels=labels)


def _counter(name: str, text: str, *labels: str) -> MeasureInfo:
    return MeasureInfo(name=f"gaia_nats_{name}_total", type="counter", help=text, labels=labels)


MEASURES: Final = (
    _gauge("server_up", "1 when a fresh client was let in and answered.", "server"),
    _gauge("round_trip_seconds", "Greeting, log-in and PING to PONG on a fresh connection.", "server"),
    _gauge("connections", "Clients connected.", "server"),
    _gauge("connections_limit", "Clients that may connect.", "server"),
    _gauge("subscriptions", "Subscriptions.", "server"),
    _counter("slow_consumers", "Clients cut for being slow.", "server"),
    _counter("stale_connections", "Clients cut for not answering.", "server"),
    _counter("in_messages", "Messages received.", "server"),
    _counter("out_messages", "Messages sent.", "server"),
    _counter("in_bytes", "Bytes received.", "server"),
    _counter("out_bytes", "Bytes sent.", "server"),
    _gauge("memory_bytes", "Resident memory of the server.", "server"),
    _gauge("cpu_ratio", "CPU used, of all cores.", "server"),
    _gauge("ready", "1 when /healthz says so.", "server"),
    _gauge("jetstream_storage_bytes", "JetStream file storage in use.", "server"),
    _gauge("jetstream_storage_limit_bytes", "JetStream file storage that may be used.", "server"),
    _gauge("canary_seconds", "Time until a canary message was stored."),
    _gauge("stream_messages", "Messages in a stream.", "stream"),
    _gauge("stream_bytes", "Bytes in a stream.", "stream"),
    _gauge("consumer_pending", "Messages a consumer has not been given yet.", "stream", "consumer"),
    _gauge("consumer_ack_pending", "Messages given and not acknowledged.", "stream", "consumer"),
    _gauge("consumer_redelivered", "Messages given more than once.", "stream", "consumer"),
    _counter("micro_requests", "Requests a NATS micro service has had.", "micro_service"),
    _counter("micro_errors", "Requests a NATS micro service answered with an error.", "micro_service"),
    _gauge("leaf_nodes", "Leaf nodes connected to the server.", "server"),
    _gauge("gateways", "Clusters the server has a gateway to.", "server"),
    _gauge("account_connections", "Connections of an account, over all servers.", "account"),
    _gauge("account_storage_bytes", "JetStream file storage an account uses.", "account"),
    _gauge("account_memory_bytes", "JetStream memory storage an account uses.", "account"),
    _gauge("memory_limit_bytes", "Memory the server may use: its machine's, or its GOMEMLIMIT.", "server"),
    _gauge("source_lag", "Messages a stream is behind one it copies from.", "stream", "source"),
    _gauge("jetstream_memory_bytes", "JetStream memory storage in use.", "server"),
)
