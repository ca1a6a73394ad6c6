"""The committed JSON, written from the Python: `python -m dashboards.export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from dashboards import agent, alerts, machines, nats, overview, postgres, probes, service
from dashboards.builder import build

FOLDER: Final = Path(__file__).parent / "json"
DASHBOARDS: Final = tuple(
    module.DASHBOARD for module in (overview, service, probes, postgres, nats, machines, alerts, agent)
)


def documents() -> dict[str, str]:
    """File name and text of each dashboard."""
    return {
        f"{dashboard.uid}.json": json.dumps(build(dashboard, DASHBOARDS), indent=1, ensure_ascii=False) + "\n"
        for dashboard in DASHBOARDS
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in documents().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
