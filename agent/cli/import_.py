"""`gaia import`: an alertmanager.yml as tables of gaia.yaml, and a list of what has no equivalent."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

import msgspec

from agent.adopt.adopted import Adopted, written
from agent.cli import OK, PROBLEM, UNKNOWN
from agent.platform.problem import PlatformError
from agent.platform.tree import Mapping

_NAMES = ("receivers", "route")


class _Problem(msgspec.Struct, frozen=True, kw_only=True):
    file: str
    line: int
    column: int
    key: str
    message: str


class _Variable(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    file: str
    line: int


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    yaml: str
    left: tuple[_Problem, ...]
    variables: tuple[_Variable, ...]


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `gaia import`."""
    add = parser.add_argument
    add("file", type=Path, help="an alertmanager.yml")
    add(
        "--onto",
        type=Path,
        metavar="FILE",
        help="a gaia.yaml: what is written is a file to be laid over it, for --overlay or to be copied in",
    )
    add("--output", type=Path, metavar="FILE", help="where to write (default: standard output)")
    add("--force", action="store_true", help="replace a file that is there")
    add("--json", action="store_true", help="one JSON document with the file, what is left and the variables")


def run(args: argparse.Namespace) -> int:
    """0 when all of it was carried over, 1 when something has no equivalent, 3 when it cannot be read."""
    from agent.adopt.alertmanager import adopt

    try:
        root = _read(args.file)
        services = _services(args.onto)
        platform = re.sub(r"[^A-Za-z0-9_-]+", "-", args.file.resolve().parent.name).strip("-") or "platform"
        document, adopted = adopt(root, platform=platform, services=services)
        text = _head(args.file, adopted) + written(document)
        _check(text, args.onto)
        if args.output is not None:
            with args.output.open("w" if args.force else "x", encoding="utf-8") as file:
                file.write(text)
    except (ValueError, PlatformError) as error:
        print(f"gaia import: {error}", file=sys.stderr)
        return UNKNOWN
    except FileExistsError:
        print(f"gaia import: {args.output} is there already; --force replaces it", file=sys.stderr)
        return UNKNOWN
    except OSError as error:
        print(f"gaia import: {error.filename}: {error.strerror}", file=sys.stderr)
        return UNKNOWN
    _say(args, text, adopted)
    return PROBLEM if adopted.left else OK


def _read(path: Path) -> Mapping:
    from agent.platform.read import read

    root = read(path.read_bytes(), str(path))
    if not any(name in root.entries for name in _NAMES):
        raise ValueError(f"{path} is no alertmanager.yml: it has neither receivers nor a route")
    return root


def _services(onto: Path | None) -> frozenset[str] | None:
    from agent.platform.load import read_files
    from agent.platform.tree import find

    if onto is None:
        return None
    root, _ = read_files(onto)
    table = find(root, "services")
    return frozenset(table.entries if isinstance(table, Mapping) else ())


def _head(file: Path, adopted: Adopted) -> str:
    lines = [
        f"# Written by gaia import from {file.name}. Every key: docs/gaia-yaml.md; check it: gaia validate"
    ]
    if adopted.variables:
        lines.append("# Secrets are not copied; set these:")
        lines += [f"#   {one.name}   (its value: {one.at})" for one in adopted.variables]
    return "\n".join([*lines, ""])


def _check(text: str, onto: Path | None) -> None:
    """What is written can be used. Raises PlatformError."""
    from agent.platform.load import read_files, resolve
    from agent.platform.read import read
    from agent.platform.tree import overlay

    root = read(text.encode(), "imported")
    if onto is not None:
        root = overlay(read_files(onto)[0], root)
    resolve(root, files=("imported",), environ=os.environ)


def _say(args: argparse.Namespace, text: str, adopted: Adopted) -> None:
    if args.json:
        answer = _Answer(
            yaml=text,
            left=tuple(
                _Problem(
                    file=one.at.file, line=one.at.line, column=one.at.column, key=one.key, message=one.message
                )
                for one in adopted.left
            ),
            variables=tuple(
                _Variable(name=one.name, file=one.at.file, line=one.at.line) for one in adopted.variables
            ),
        )  # fmt: skip
        print(msgspec.json.encode(answer).decode())
        return
    if args.output is None:
        print(text, end="")
    else:
        print(f"wrote {args.output}; next: read it, gaia validate --config {args.output}")
    for one in adopted.left:
        print(one, file=sys.stderr)
    if adopted.left:
        print(f"{len(adopted.left)} without an equivalent", file=sys.stderr)
