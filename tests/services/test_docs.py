"""docs/services.md says every variable and every metric the services know, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from services.instrumentation.kit import Instrumentation
from services.instrumentation.settings import Settings
from tests.services.running import BUILDERS, environment

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "services.md").read_text("utf-8")
# How the code asks for a variable: itself, by a reader of settings, or as a table's value.
READ = re.compile(
    r'(?:environ|options)(?:\.get\(|\[)"([A-Z0-9_]+)"'
    r'|(?:environ|options), "([A-Z0-9_]+)"'
    r'|"[a-z]+": "([A-Z]+_URL)"'
)


def rows(title: str) -> list[list[str]]:
    """The cells of the table below a heading."""
    section = TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_variable_is_in_the_table() -> None:
    sources = [file.read_text("utf-8") for file in (ROOT / "services").rglob("*.py")]
    read = {name for source in sources for found in READ.findall(source) for name in found if name}
    documented = {name for row in rows("Variables") for name in re.findall(r"`([A-Z0-9_]+)`", row[0])}
    assert documented == read


def test_every_metric_is_in_the_table(tmp_path: Path) -> None:
    known: dict[str, str] = {}
    for service, build in BUILDERS.items():
        kit = Instrumentation(Settings.from_environment(service, environment(ASSET_STORAGE=str(tmp_path))))
        build(kit)
        for metric in kit.metrics.registry.collect():
            known[f"{metric.name}_total" if metric.type == "counter" else metric.name] = metric.type
    assert {row[0].strip("`"): row[1] for row in rows("Metrics")} == known
