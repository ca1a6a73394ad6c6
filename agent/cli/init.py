"""`gaia init`: a first gaia.yaml, from fly.toml files or from services that already run."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from agent.cli import OK, UNKNOWN
from agent.platform.problem import PlatformError


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `gaia init`."""
    add = parser.add_argument
    add("folder", nargs="?", type=Path, default=Path(), help="where fly*.toml files are looked for")
    add("--url", action="append", metavar="URL", help="ask this running service instead; may be repeated")
    add(
        "--output",
        type=Path,
        metavar="FILE",
        help="where to write (default: gaia.yaml in the folder; - prints)",
    )
    add("--platform", metavar="NAME", help="the platform's name (default: the folder's)")
    add("--force", action="store_true", help="replace a file that is there")
    add("--json", action="store_true", help="say in JSON what was written")


def run(args: argparse.Namespace) -> int:
    """0 when a file was written that is valid; 3 when there was nothing to go by."""
    folder: Path = args.folder
    platform = (
        args.platform or re.sub(r"[^A-Za-z0-9_-]+", "-", folder.resolve().name).strip("-") or "platform"
    )
    try:
        text = _from_urls(args.url, platform) if args.url else _from_files(folder, platform)
        _check(text)
    except (ValueError, PlatformError) as error:
        print(f"gaia init: {error}", file=sys.stderr)
        return UNKNOWN
    output: Path = args.output or folder / "gaia.yaml"
    if str(output) == "-":
        print(text, end="")
        return OK
    try:
        with output.open("w" if args.force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        print(f"gaia init: {output} is there already; --force replaces it", file=sys.stderr)
        return UNKNOWN
    except OSError as error:
        print(f"gaia init: cannot write {output}: {error.strerror}", file=sys.stderr)
        return UNKNOWN
    if args.json:
        import json

        print(json.dumps({"file": str(output), "platform": platform}))
    else:
        print(f"wrote {output}; next: read it, gaia validate --without-secrets, gaia check")
    return OK


def _from_files(folder: Path, platform: str) -> str:
    from agent.platform.draft import from_fly
    from agent.platform.fly_files import FlyFileError, find_apps

    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder")
    try:
        apps = find_apps(folder)
    except FlyFileError as error:
        raise ValueError(str(error)) from error
    if not apps:
        raise ValueError(f"no fly*.toml below {folder}; name a running service with --url instead")
    return from_fly(apps, platform=platform)


def _from_urls(urls: list[str], platform: str) -> str:
    from agent.platform.answering import ask
    from agent.platform.draft import from_answers

    return from_answers([ask(url) for url in urls], platform=platform)


def _check(text: str) -> None:
    """What is written must be readable. Raises PlatformError."""
    from agent.platform.load import resolve
    from agent.platform.read import read

    resolve(read(text.encode(), "gaia.yaml"), files=("gaia.yaml",), environ={})
