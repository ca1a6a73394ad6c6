"""gaia.yaml from disk to a Platform: every mistake at once, or none."""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from pathlib import Path

from agent.platform import semantics
from agent.platform.careful import Unset
from agent.platform.convert import Reader
from agent.platform.environment_reader import EnvironmentReader
from agent.platform.problem import PlatformError, Position, Problems, nearest
from agent.platform.read import MAX_BYTES, read
from agent.platform.scope import Platform, Scope
from agent.platform.sections import SECTIONS
from agent.platform.tree import Mapping, Scalar
from agent.platform.tree import overlay as lay_over


def load(path: Path, *, overlay: Path | None = None, environ: MappingType[str, str]) -> Platform:
    """Read, merge, convert and check the file.

    Variables that are not set are no mistake here, because each environment runs elsewhere with its own;
    `Platform.scope` insists on those of its environment. Raises PlatformError with everything found.
    """
    root, files = read_files(path, overlay)
    return resolve(root, files=files, environ=environ)


def read_files(path: Path, overlay: Path | None = None) -> tuple[Mapping, tuple[str, ...]]:
    """The tree of one file, or of two laid over each other, and their names. Raises PlatformError."""
    files = (path,) if overlay is None else (path, overlay)
    trees = [read(_content(file), str(file)) for file in files]
    root = trees[0] if len(trees) == 1 else lay_over(trees[0], trees[1])
    return root, tuple(str(file) for file in files)


def resolve(root: Mapping, *, files: tuple[str, ...], environ: MappingType[str, str]) -> Platform:
    """The platform that the tree `root` describes. Raises PlatformError."""
    problems = Problems()
    _known_sections(root, problems)
    name = _name(root, problems)
    scopes: dict[str, Scope] = {}
    unset: list[Unset] = []
    for environment in environment_names(root, problems):
        reader = EnvironmentReader(root, environment, environ=environ, problems=problems)
        scopes[environment] = reader.scope(platform=name)
        unset.extend(reader.unset)
    semantics.check(root, scopes, problems)
    if problems.errors():
        raise PlatformError(problems.all())
    return Platform(name=name, files=files, scopes=scopes, unset=tuple(unset), warnings=problems.warnings())


def environment_names(root: Mapping, problems: Problems) -> tuple[str, ...]:
    """The environments the file defines."""
    entry = root.entries.get("environments")
    if entry is None:
        problems.add(
            root.at,
            'the file needs "environments": at least one, such as production: {alias: prod}',
            key="environments",
        )
        return ()
    if not isinstance(entry.value, Mapping) or not entry.value.entries:
        problems.add(entry.value.at, "environments must name at least one environment", key="environments")
        return ()
    return tuple(entry.value.entries)


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            # One byte more than is read, so that a file that is too long is told from one that fits.
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        problems = Problems()
        problems.add(Position(str(path), 1, 1), f"cannot be read: {error.strerror or error}")
        raise PlatformError(problems.all()) from error


def _known_sections(root: Mapping, problems: Problems) -> None:
    for name, entry in root.entries.items():
        if name not in SECTIONS:
            near = nearest(name, SECTIONS)
            hint = "" if near else f"; valid here: {', '.join(SECTIONS)}"
            problems.add(entry.at, f'unknown key "{name}"{hint}', key=name, nearest=near, width=len(name))


def _name(root: Mapping, problems: Problems) -> str:
    entry = root.entries.get("platform")
    if entry is None:
        problems.add(root.at, 'the file needs "platform": the name of what is watched', key="platform")
        return ""
    reader = Reader("", "", {}, problems)
    if not isinstance(entry.value, Scalar):
        problems.add(entry.value.at, "platform must be a name", key="platform")
        return ""
    return reader.text(entry.value, key="platform") or ""
