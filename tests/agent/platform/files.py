"""Files on disk for the loader's tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from agent.platform.load import load
from agent.platform.problem import PlatformError
from agent.platform.scope import Platform

REPOSITORY = Path(__file__).parents[3]
ROOT_FILE = REPOSITORY / "gaia.yaml"
# What a process of each environment has, so that the root file is complete.
VARIABLES = {
    "DATABASE_URL": "postgresql://gaia:secret@127.0.0.1:5432/gaia",
    "NATS_URL": "nats://127.0.0.1:4222",
    "ONCALL_URL": "https://hooks.example/on-call",
}


def loaded(
    folder: Path, text: str, *, overlay: str | None = None, environ: Mapping[str, str] | None = None
) -> Platform:
    """The platform of a file with this text, and of a second one over it."""
    path = folder / "gaia.yaml"
    path.write_text(text)
    above = None
    if overlay is not None:
        above = folder / "overlay.yaml"
        above.write_text(overlay)
    return load(path, overlay=above, environ=environ or {})


def said(folder: Path, text: str, *, environ: Mapping[str, str] | None = None) -> list[str]:
    """What the loader says about a file with this text, without the file's name."""
    try:
        problems = loaded(folder, text, environ=environ).warnings
    except PlatformError as error:
        problems = error.problems
    return [str(problem).removeprefix(f"{problem.file}:") for problem in problems]
