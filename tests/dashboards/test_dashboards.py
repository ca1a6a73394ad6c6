"""Dashboards as committed: what the code builds, of metrics that exist, in PromQL that parses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import promql_parser
import pytest

from agent.exposition.metrics import METRICS, TARGET
from checks.catalog import MODULES, kind
from dashboards.builder import Dashboard
from dashboards.export import DASHBOARDS, FOLDER, documents

ROOT = Path(__file__).resolve().parents[2]
SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^}]*)\}")
# Of Prometheus itself: put there when scraping.
SCRAPED = {"instance", "job"}


def plain(expr: str) -> str:
    """The expression with Grafana's variables filled in."""
    for name, value in (
        ("$__rate_interval", "1m"),
        ("$__range", "1h"),
        ("$env", ".*"),
        ("$service", ".*"),
    ):
        expr = expr.replace(name, value)
    return expr


def expressions(dashboard: Dashboard) -> Iterator[tuple[str, str]]:
    for panel in dashboard.panels:
        for query in panel.queries:
            yield panel.title, plain(query.expr)


def exported() -> dict[str, set[str]]:
    """Every series name of the agent with its labels."""
    found: dict[str, set[str]] = {}
    for metric in METRICS:
        found[metric.name] = set(metric.labels)
        if metric.type == "histogram":
            for suffix in ("_bucket", "_count", "_sum"):
                found[metric.name + suffix] = {*metric.labels, "le"}
    for name in MODULES:
        for info in kind(name).measures:
            found |= {series: {*TARGET, *labels} for series, labels in info.series.items()}
    return found


def of_services() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "services").rglob("*.py")))


EXPRESSIONS = [
    pytest.param(expr, id=f"{dashboard.uid}: {title}")
    for dashboard in DASHBOARDS
    for title, expr in expressions(dashboard)
]


@pytest.mark.parametrize("expr", EXPRESSIONS)
def test_every_expression_parses(expr: str) -> None:
    promql_parser.parse(expr)


@pytest.mark.parametrize("expr", EXPRESSIONS)
def test_every_metric_and_label_is_exported_by_our_code(expr: str) -> None:
    known, services = exported(), of_services()
    bare = re.sub(r'"[^"]*"', '""', expr)
    names = set(re.findall(r"\b(?:gaia|probe|process|http|circuit|event)_[a-z0-9_]+\b", bare)) - {
        "http_response_status_code",
        "http_route",
        "http_request_method",
    }
    assert names, expr
    labels: set[str] = set()
    for name in names:
        if name in known:
            labels |= known[name]
        else:
            family = re.sub(r"_(bucket|count|sum)$", "", name)
            assert f'"{family}"' in services, f"{name} is exported by nobody"
            labels |= set(re.findall(r'"([a-z_]+)"', services)) | {"env", "service", "le"}
    used = {
        label
        for selector in re.findall(r"\{([^}]*)\}", bare)
        for label in re.findall(r"([a-z_]+)\s*(?:=~|!=|=)", selector)
    }
    for group in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", bare):
        used |= {label.strip() for label in group.split(",") if label.strip()}
    assert used <= labels | SCRAPED, used - labels


def test_the_committed_json_is_what_the_code_builds() -> None:
    built = documents()
    assert {path.name for path in FOLDER.glob("*.json")} == set(built)
    for name, text in built.items():
        assert (FOLDER / name).read_text(encoding="utf-8") == text, "run python -m dashboards.export"


def test_identifiers_are_stable() -> None:
    assert [dashboard.uid for dashboard in DASHBOARDS] == [
        "gaia-overview",
        "gaia-service",
        "gaia-probes",
        "gaia-postgres",
        "gaia-nats",
        "gaia-machines",
        "gaia-alerts",
        "gaia-agent",
    ]


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)
def test_every_panel_says_what_bad_looks_like_and_what_no_data_means(dashboard: Dashboard) -> None:
    assert 4 <= len(dashboard.panels) <= 13
    assert len({panel.title for panel in dashboard.panels}) == len(dashboard.panels)
    for panel in dashboard.panels:
        assert panel.description.endswith(".")
        assert panel.empty
        assert panel.width <= 24


def test_the_edge_at_two_seconds_is_matched_however_it_is_written() -> None:
    for dashboard in DASHBOARDS:
        for _, expr in expressions(dashboard):
            assert 'le="2"' not in expr
            assert 'le="2.0"' not in expr


def test_nothing_selects_on_labels_that_fly_overwrites() -> None:
    for dashboard in DASHBOARDS:
        for _, expr in expressions(dashboard):
            assert not re.search(r"\b(app|region|host|instance)\s*(=|!)", expr)
