"""docs/metrics.md, written from the metrics' own declarations: `python -m agent.exposition.docs`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from agent.exposition.metrics import (
    AGENT,
    ALERTS,
    NOTIFICATIONS,
    SPANS,
    TARGET,
    TARGETS,
    TELEMETRY,
    TRAFFIC,
    Metric,
)
from checks.catalog import MODULES, MeasureInfo, kind

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
_INTRODUCTION: Final = """\
# Metrics

Everything `/metrics` of the agent shows. This page is written by `python -m agent.exposition.docs` from the
declarations in the code; a test compares the two.

Every series of a target is unique by `env, service, check, vantage`; nothing of ours selects on `instance`,
`app`, `region` or `host`, which Fly.io overwrites. Histograms have the label `le` beside those listed; 2 s
and every threshold configured in gaia.yaml is a bucket edge, written `2.0`: select it with
`le=~"2(\\\\.0)?"`, as some stores normalise it. What could not be measured has no
series; there is never a 0 or -1 for "not known".
"""
_TITLES: Final = (
    ("Targets", TARGETS),
    ("Traffic of the services", (*TRAFFIC, *SPANS)),
    ("Alerts", ALERTS),
    ("Notifications", NOTIFICATIONS),
    ("Telemetry", TELEMETRY),
    ("The agent itself", AGENT),
)


def text() -> str:
    """The whole page."""
    parts = [_INTRODUCTION]
    for title, metrics in _TITLES:
        parts.append(f"## {title}\n\n{_table(metrics)}")
    for name in MODULES:
        measures = kind(name).measures
        if measures:
            parts.append(f"## Measured by checks of kind `{name}`\n\n{_table(map(_metric, measures))}")
    return "\n".join(parts)


def _metric(info: MeasureInfo) -> Metric:
    from agent.exposition.family import Type

    return Metric(name=info.name, type=Type(info.type), help=info.help, labels=(*TARGET, *info.labels))


def _table(metrics: Iterable[Metric]) -> str:
    lines = ["| metric | type | labels | what it says |", "|---|---|---|---|"]
    for metric in metrics:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.name}` | {metric.type} | {labels} | {metric.help.replace('|', '/')} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(text(), encoding="utf-8")
