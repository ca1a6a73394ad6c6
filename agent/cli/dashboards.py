"""`gaia dashboards export`: the Grafana dashboards as files to provision or import."""

from __future__ import annotations

import argparse
import sys
from importlib import resources
from pathlib import Path

from agent.cli import OK, UNKNOWN


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `gaia dashboards`."""
    parser.add_argument("action", choices=("export", "list"), help="export: write the files; list: name them")
    parser.add_argument(
        "--to", type=Path, default=Path(), metavar="FOLDER", help="where to write (default: here)"
    )


def run(args: argparse.Namespace) -> int:
    """0 when the files are there, 3 when they cannot be written."""
    # By name: the room of the dashboards is built from this one and not imported by it.
    folder = resources.files("dashboards") / "json"
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if args.action == "list":
            print(file.name)
            continue
        path = args.to / file.name
        try:
            args.to.mkdir(parents=True, exist_ok=True)
            path.write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
        except OSError as error:
            print(f"gaia dashboards: cannot write {path}: {error.strerror}", file=sys.stderr)
            return UNKNOWN
        print(path)
    return OK
