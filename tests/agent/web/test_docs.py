"""docs/api.md names what is served, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from agent.desk_routes import desk_routes
from agent.incident_routes import incident_routes
from agent.trace_path import trace_route
from agent.web.routes import ROUTES

PAGE = Path(__file__).resolve().parents[3] / "docs" / "api.md"
DESK = [route for route in desk_routes(tuple) if not route.path.startswith("/api/v2/")]
EVERY = (*ROUTES, *DESK, *incident_routes(tuple, lambda: None), trace_route(lambda _: None))


def test_every_address_is_in_the_documentation() -> None:
    text = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(?:[A-Z]+ )?(/[^`]*)` \|", text, flags=re.MULTILINE))
    elsewhere = {"/", "/failures", "/probe", "/api/v2/…", "/i/…"}
    served = {route.path for route in EVERY if not route.path.startswith("/i/")}
    assert named - elsewhere == served


def test_every_query_parameter_is_in_the_documentation() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for route in EVERY:
        for name in route.query:
            assert re.search(rf"\b{name}\b", text), (route.path, name)
