"""`gaia schema`: the JSON Schema of gaia.yaml, for editors that complete and check as one types."""

from __future__ import annotations

import argparse
import json

from agent.cli import OK


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `gaia schema`."""
    parser.epilog = (
        "Save it beside the file and begin gaia.yaml with: # yaml-language-server: $schema=./gaia.schema.json"
    )
    parser.add_argument("--json", action="store_true", help="the output is JSON in any case")


def run(args: argparse.Namespace) -> int:  # noqa: ARG001  # Every command takes its arguments.
    """Print the schema."""
    from agent.platform.schema import schema

    print(json.dumps(schema(), indent=2))
    return OK
