"""Every command the README shows, run as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.platform.load import load
from tests.acceptance.platform import REPOSITORY, RunningPlatform, running
from tests.waiting import until_sync

README = (REPOSITORY / "README.md").read_text()
COMMANDS = [
    line.removeprefix("$ ").partition("  #")[0].strip()
    for block in re.findall(r"^```console\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    if line.startswith("$ ")
]
GAIA = [command for command in COMMANDS if command.startswith("gaia ")]
MAKE = [command for command in COMMANDS if command.startswith("make ")]
# `gaia alerts` ends with 1 while something fires; on a busy machine something may.
ACCEPTED = {"gaia alerts": {0, 1}, "gaia status": {0, 1}, "gaia check": {0, 1}, "gaia doctor": {0, 1}}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    with running(tmp_path_factory.mktemp("readme")) as platform:
        until_sync(lambda: seen(platform), within_s=30, what="every component was looked at")
        yield platform


def seen(platform: RunningPlatform) -> bool:
    """Whether the agent serves and has a first verdict about everything."""
    status = platform.get("/api/v1/status")
    return b'"ready":true' in status and b'"not_yet"' not in status


def shell(platform: RunningPlatform) -> dict[str, str]:
    """The environment of a shell that has read `.gaia/env`."""
    lines = (platform.folder / ".gaia" / "env").read_text().splitlines()
    named = dict(shlex.split(line)[1].split("=", 1) for line in lines)
    return {**os.environ, **named, "PYTHONPATH": str(REPOSITORY)}


def test_every_command_is_one_that_is_run_here() -> None:
    assert sorted(GAIA + MAKE) == sorted(COMMANDS)
    assert len(GAIA) >= 10


def test_the_ten_lines_are_a_valid_file(tmp_path: Path) -> None:
    (lines,) = re.findall(r"^```yaml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    file = tmp_path / "gaia.yaml"
    file.write_text(lines)
    named = {"DATABASE_URL": "postgres://db/app", "NATS_URL": "nats://bus", "ONCALL_URL": "json://desk"}
    scope = load(file, environ=named).scope("production")
    assert (set(scope.services), set(scope.databases), set(scope.brokers)) == (
        {"web"},
        {"postgres"},
        {"nats"},
    )


@pytest.mark.parametrize("command", MAKE)
def test_make_knows_the_target(command: str) -> None:
    # Not run here: `make test` is what runs this, and `make up` is the platform of the other tests.
    told = subprocess.run(
        ["make", "--dry-run", *shlex.split(command)[1:]],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (told.returncode, told.stderr) == (0, "")


@pytest.mark.parametrize("command", GAIA)
def test_it_does_what_it_says(platform: RunningPlatform, command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agent.cli", *shlex.split(command)[1:]],
        cwd=platform.folder, env=shell(platform), capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip
    assert done.returncode in ACCEPTED.get(command, {0}), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.strip()
