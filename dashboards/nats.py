"""NATS and JetStream: servers, flow, streams and their consumers."""

from __future__ import annotations

from typing import Final

from dashboards.builder import Dashboard, Panel, Query
from dashboards.selectors import R, S, number, trend

_N: Final = "gaia_nats"

DASHBOARD: Final = Dashboard(
    uid="gaia-nats",
    title="Gaia NATS",
    description="Brokers as the agent's NATS check sees them.",
    service_source=f"{_N}_server_up",
    panels=(
        number(
            "Servers up",
            f"sum({_N}_server_up{{{S}}})",
            "Bad: fewer than there should be. The row on the status page names the missing one.",
            red=1,
            low_is_bad=True,
        ),
        number(
            "Round trip",
            f"max({_N}_round_trip_seconds{{{S}}})",
            "Bad: above 0.5 s: the broker or the way to it is overloaded.",
            unit="s",
            amber=0.1,
            red=0.5,
        ),
        number(
            "Slow consumers cut",
            f"sum(increase({_N}_slow_consumers_total{{{S}}}[$__range]))",
            "Bad: any. A client reads too slowly and loses messages.",
            amber=1,
        ),
        number(
            "JetStream storage used",
            f"max({_N}_jetstream_storage_bytes{{{S}}} / {_N}_jetstream_storage_limit_bytes{{{S}}})",
            "Bad: above 80 %. Streams will refuse messages: raise the limit or the streams' limits.",
            "No JetStream",
            unit="percentunit",
            amber=0.8,
            red=0.9,
        ),
        Panel(
            title="Messages",
            kind="timeseries",
            queries=(
                Query(
                    expr=f"sum by (service) (rate({_N}_in_messages_total{{{S}}}{R}))", legend="{{service}} in"
                ),
                Query(
                    expr=f"sum by (service) (rate({_N}_out_messages_total{{{S}}}{R}))",
                    legend="{{service}} out",
                ),
            ),
            description="Bad: in without out: nobody is subscribed.",
            empty="The monitoring port does not answer",
            unit="ops",
        ),
        trend(
            "Waiting for a consumer",
            f"max by (service, stream, consumer) ({_N}_consumer_pending{{{S}}})",
            "{{stream}} {{consumer}}",
            "Bad: growing. The consumer is gone or too slow.",
            "No consumers",
        ),
        trend(
            "Growth per minute",
            f"deriv({_N}_consumer_pending{{{S}}}[5m]) * 60",
            "{{stream}} {{consumer}}",
            "Bad: above 0 for long. At this pace the stream fills up.",
            "No consumers",
        ),
        trend(
            "Given, not acknowledged",
            f"max by (service, stream, consumer) ({_N}_consumer_ack_pending{{{S}}})",
            "{{stream}} {{consumer}}",
            "Bad: at the consumer's limit: it then gets nothing more.",
            "No consumers",
        ),
        trend(
            "Given again",
            f"max by (service, stream, consumer) ({_N}_consumer_redelivered{{{S}}})",
            "{{stream}} {{consumer}}",
            "Bad: rising. A message that cannot be processed comes back again and again.",
            "No consumers",
        ),
        trend(
            "Streams",
            f"max by (service, stream) ({_N}_stream_bytes{{{S}}})",
            "{{stream}}",
            "Bad: at the stream's limit: then it discards or refuses.",
            "No streams",
            unit="bytes",
        ),
        trend(
            "Connections",
            f"max by (service, server) ({_N}_connections{{{S}}} / {_N}_connections_limit{{{S}}})",
            "{{server}}",
            "Bad: above 80 % of the limit.",
            unit="percentunit",
            amber=0.8,
        ),
        trend(
            "CPU",
            f"max by (service, server) ({_N}_cpu_ratio{{{S}}})",
            "{{server}}",
            "Bad: above 80 % for long.",
            unit="percentunit",
            amber=0.8,
        ),
    ),
)
