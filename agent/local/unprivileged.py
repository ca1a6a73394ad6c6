"""PostgreSQL refuses to run as root: how to start it as somebody else, and own its files accordingly."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

from agent.local.child import LocalError, leashed

ACCOUNT_VARIABLE: Final = "GAIA_PG_USER"
"""The account to run PostgreSQL as when started by root; without it a user namespace is tried first."""


def drop_words(program: Path) -> tuple[str, ...]:
    """The leash's words with which `program` runs here; none for an ordinary user. Raises LocalError."""
    return _way(program, os.environ.get(ACCOUNT_VARIABLE)) if os.geteuid() == 0 else ()


def own(path: Path, drop: tuple[str, ...]) -> None:
    """Give `path` and all below it to the account that `drop` turns root into."""
    if not drop:
        return
    account = pwd.getpwnam(drop[1] if drop[0] == "--user" else "root").pw_uid
    if drop[0] == "--user":
        # That account may pass through our folder, not look around in it.
        path.parent.chmod(path.parent.stat().st_mode | 0o011)
    if path.stat().st_uid == account:
        return
    for each in (path, *(path.rglob("*") if path.is_dir() else ())):
        shutil.chown(each, account)


@cache
def _way(program: Path, account: str | None) -> tuple[str, ...]:
    """The account asked for; else a user namespace, else an account that every system has."""
    ways = (("--map-user",), ("--user", "postgres"), ("--user", "nobody"))
    failures: list[str] = []
    for way in ways if account is None else (("--user", account),):
        done = subprocess.run(  # noqa: S603  # Our own argument vector, no shell.
            leashed([program, "--version"], drop=way),
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
            cwd="/",
        )
        if done.returncode == 0:
            return way
        failures.append(f"{' '.join(way)}: {done.stderr.strip()}")
    raise LocalError(
        "PostgreSQL refuses to run as root and no other way works here: run as an ordinary user, or put the "
        f"installation where everybody may read it, or name an account with {ACCOUNT_VARIABLE}\n    "
        + "\n    ".join(failures)
    )
