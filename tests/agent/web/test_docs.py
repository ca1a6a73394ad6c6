"""docs/api.md names what is served, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from agent.web.routes import ROUTES

PAGE = Path(__file__).resolve().parents[3] / "docs" / "api.md"


def test_every_address_is_in_the_documentation() -> None:
    named = set(re.findall(r"^\| `(/[^`]*)` \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE))
    elsewhere = {"/", "/failures", "/probe", "/api/v1/trace", "/api/v2/…"}
    assert named - elsewhere == {route.path for route in ROUTES}


def test_every_query_parameter_is_in_the_documentation() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for route in ROUTES:
        for name in route.query:
            assert re.search(rf"\b{name}\b", text), (route.path, name)
