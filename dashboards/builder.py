"""Panels and dashboards as data, and the Grafana JSON (schema 42) they become."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"
Kind = Literal["stat", "timeseries", "table", "state-timeline", "heatmap", "bargauge"]

SCHEMA_VERSION: Final = 42
_SOURCE: Final[dict[str, Json]] = {"type": "prometheus", "uid": "${datasource}"}
_COLOURS: Final = {"green": "#15A194", "amber": "#D18F00", "red": "#C4161C"}
_COLUMNS: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One PromQL expression; `instant` asks for the value now."""

    expr: str
    legend: str = ""
    instant: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel. `description` says what bad looks like and what to do; `empty` what no data means.

    `amber` and `red` are thresholds, drawn as lines; with `low_is_bad` they are lower bounds.
    """

    title: str
    kind: Kind
    queries: tuple[Query, ...]
    description: str
    empty: str
    unit: str = "short"
    amber: float | None = None
    red: float | None = None
    low_is_bad: bool = False
    width: int = 8
    height: int = 7
    decimals: int | None = None
    exemplars: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """One dashboard; `uid` never changes, links and bookmarks hang on it."""

    uid: str
    title: str
    description: str
    panels: tuple[Panel, ...]
    with_service: bool = True
    service_source: str = "gaia_target_info"


def build(dashboard: Dashboard, others: tuple[Dashboard, ...]) -> dict[str, Json]:
    """The document Grafana imports; `others` are linked from its header."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "tags": ["gaia"],
        "editable": False,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": _variables(dashboard)},
        "annotations": {"list": _annotations()},
        "links": [
            {
                "type": "link",
                "title": other.title,
                "url": f"/d/{other.uid}?${{__url_time_range}}&${{env:queryparam}}",
                "icon": "dashboard",
            }
            for other in others
            if other.uid != dashboard.uid
        ],
        "panels": _placed(dashboard.panels),
    }


def _variables(dashboard: Dashboard) -> list[Json]:
    variables: list[Json] = [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        _variable("env", "Environment", "label_values(gaia_target_info, env)"),
    ]
    if dashboard.with_service:
        query = f'label_values({dashboard.service_source}{{env=~"$env"}}, service)'
        variables.append(_variable("service", "Service", query))
    return variables


def _variable(name: str, label: str, query: str) -> Json:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": "A"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _annotations() -> list[Json]:
    def annotation(name: str, expr: str, colour: str, text: str, *, at_value: bool) -> Json:
        return {
            "name": name,
            "enable": True,
            "iconColor": colour,
            "datasource": _SOURCE,
            "expr": expr,
            "titleFormat": name,
            "textFormat": text,
            "useValueForTime": at_value,
        }

    return [
        annotation(
            "Deploy",
            'gaia_last_deploy_timestamp_seconds{env=~"$env"} * 1000',
            "blue",
            "{{service}} in {{env}}",
            at_value=True,
        ),
        annotation(
            "Alert",
            'gaia_alert_state{env=~"$env",alertstate="firing"} == 1',
            "red",
            "{{alertname}}: {{service}} in {{env}}",
            at_value=False,
        ),
    ]


def _placed(panels: tuple[Panel, ...]) -> list[Json]:
    placed: list[Json] = []
    left = top = tallest = 0
    for number, panel in enumerate(panels, 1):
        if left + panel.width > _COLUMNS:
            left, top, tallest = 0, top + tallest, 0
        placed.append(_panel(panel, number, {"x": left, "y": top, "w": panel.width, "h": panel.height}))
        left += panel.width
        tallest = max(tallest, panel.height)
    return placed


def _panel(panel: Panel, number: int, place: dict[str, Json]) -> Json:
    defaults: dict[str, Json] = {
        "unit": panel.unit,
        "noValue": panel.empty,
        "thresholds": {"mode": "absolute", "steps": _steps(panel)},
        "links": [
            {
                "title": "This service",
                "url": "/d/gaia-service?${__url_time_range}&${env:queryparam}"
                "&var-service=${__field.labels.service}",
            },
            {"title": "Probes", "url": "/d/gaia-probes?${__url_time_range}&${env:queryparam}"},
        ],
    }
    if panel.decimals is not None:
        defaults["decimals"] = panel.decimals
    if panel.kind == "timeseries":
        drawn = "line" if panel.amber is not None or panel.red is not None else "off"
        defaults["custom"] = {
            "lineWidth": 1,
            "fillOpacity": 6,
            "spanNulls": False,
            "thresholdsStyle": {"mode": drawn},
        }
        defaults["color"] = {"mode": "palette-classic"}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "gridPos": place,
        "targets": [_target(query, panel, index) for index, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel.kind),
    }


def _target(query: Query, panel: Panel, index: int) -> Json:
    return {
        "refId": chr(ord("A") + index),
        "datasource": _SOURCE,
        "expr": query.expr,
        "legendFormat": query.legend,
        "instant": query.instant,
        "range": not query.instant,
        "exemplar": panel.exemplars,
        "format": "table"
        if panel.kind == "table"
        else "heatmap"
        if panel.kind == "heatmap"
        else "time_series",
    }


def _steps(panel: Panel) -> list[Json]:
    """Grafana wants them ascending, the first without a value."""
    bounds = [
        (bound, name) for bound, name in ((panel.amber, "amber"), (panel.red, "red")) if bound is not None
    ]
    if not panel.low_is_bad:
        steps: list[Json] = [{"color": _COLOURS["green"], "value": None}]
        for bound, name in sorted(bounds):
            steps.append({"color": _COLOURS[name], "value": bound})
        return steps
    ascending = sorted(bounds)
    colours = [*(name for _, name in ascending), "green"]
    values: list[float | None] = [None, *(bound for bound, _ in ascending)]
    return [{"color": _COLOURS[name], "value": value} for name, value in zip(colours, values, strict=True)]


def _options(kind: Kind) -> dict[str, Json]:
    reduce: dict[str, Json] = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    match kind:
        case "stat":
            return {
                "reduceOptions": reduce,
                "colorMode": "background",
                "graphMode": "area",
                "textMode": "auto",
            }
        case "timeseries":
            legend: dict[str, Json] = {"displayMode": "list", "placement": "bottom", "calcs": []}
            return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
        case "bargauge":
            return {"reduceOptions": reduce, "orientation": "horizontal", "displayMode": "basic"}
        case "state-timeline":
            return {"mergeValues": True, "showValue": "never", "rowHeight": 0.85}
        case "heatmap":
            return {"calculate": False, "cellGap": 1}
        case _:
            return {"showHeader": True}
