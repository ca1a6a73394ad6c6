"""A mistake in the file, said so that it can be put right: where, what, what was expected, what is near."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec


class Severity(StrEnum):
    """An error keeps the file from being used; a warning does not."""

    ERROR = "error"
    WARNING = "warning"


class Position(msgspec.Struct, frozen=True, order=True, gc=False):
    """Where something is written; line and column start at 1, as editors count."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Problem(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One mistake.

    `key` is the path of the value in the file (`services.gateway.timeout`), `nearest` the valid word that
    was probably meant ("" when there is none), `width` the characters to underline, `environment` the
    only environment concerned ("" when all are).
    """

    file: str
    line: int
    column: int
    key: str
    message: str
    nearest: str = ""
    severity: Severity = Severity.ERROR
    width: int = 1
    environment: str = ""

    def __str__(self) -> str:
        hint = f'; did you mean "{self.nearest}"?' if self.nearest else ""
        return f"{self.file}:{self.line}:{self.column}: {self.severity}: {self.message}{hint}"


class PlatformError(Exception):
    """The file cannot be used. `problems` holds every mistake in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Problems:
    """Collects mistakes; the same one found in several environments is kept once."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int, int, str], Problem] = {}

    def add(
        self,
        at: Position,
        message: str,
        *,
        key: str = "",
        nearest: str = "",
        severity: Severity = Severity.ERROR,
        width: int = 1,
        environment: str = "",
    ) -> None:
        """Note one mistake at `at`."""
        found = Problem(
            file=at.file,
            line=at.line,
            column=at.column,
            key=key,
            message=message,
            nearest=nearest,
            severity=severity,
            width=width,
            environment=environment,
        )
        self._found.setdefault((at.file, at.line, at.column, message), found)

    def take(self, found: Iterable[Problem]) -> None:
        """Note mistakes that were found elsewhere."""
        for one in found:
            self._found.setdefault((one.file, one.line, one.column, one.message), one)

    def all(self) -> tuple[Problem, ...]:
        """Everything found: file by file in the order met, then by line."""
        files = {problem.file: None for problem in self._found.values()}
        order = {file: rank for rank, file in enumerate(files)}
        return tuple(sorted(self._found.values(), key=lambda it: (order[it.file], it.line, it.column)))

    def errors(self) -> tuple[Problem, ...]:
        """Only what keeps the file from being used."""
        return tuple(problem for problem in self.all() if problem.severity is Severity.ERROR)

    def warnings(self) -> tuple[Problem, ...]:
        """What works but is probably not meant."""
        return tuple(problem for problem in self.all() if problem.severity is Severity.WARNING)


def nearest(word: str, valid: Iterable[str]) -> str:
    """The one of `valid` that `word` was probably meant to be, or ""."""
    from difflib import get_close_matches  # 4 ms that a correct file does not pay.

    candidates = {candidate.lower(): candidate for candidate in valid}
    found = get_close_matches(word.lower(), candidates, n=1, cutoff=0.6)
    if found:
        return candidates[found[0]]
    # Short forms such as prod and dev are too short for the distance above.
    longer = [candidate for low, candidate in candidates.items() if word and low.startswith(word.lower())]
    return longer[0] if len(longer) == 1 else ""
