"""docs/api.md names what is served, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from agent.desk_routes import desk_routes
from agent.incident_routes import incident_routes
from agent.trace_path import trace_route
from agent.web.routes import ROUTES

PAGE = Path(__file__).resolve().parents[3] / "docs" / "api.md"


def test_every_address_is_in_the_documentation() -> None:
    named = set(re.findall(r"^\| `(/[^`]*)` \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE))
    more = (*desk_routes(lambda: ()), *incident_routes(lambda: (), lambda: None), trace_route(lambda _: None))
    elsewhere = {"/", "/failures", "/probe", "/i/…", "/api/v2/…"} | {route.path for route in more}
    assert named - elsewhere == {route.path for route in ROUTES}


def test_every_query_parameter_is_in_the_documentation() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for route in ROUTES:
        for name in route.query:
            assert re.search(rf"\b{name}\b", text), (route.path, name)
