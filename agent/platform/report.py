"""Problems as people read them in a terminal: the sentence, the line, and a mark under what is meant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Final

from agent.platform.problem import Problem

# Between the scheme and the @ of an address stands who and with what password.
_USERINFO: Final = re.compile(r"(://)[^/@\s]+(@)")
_MAX_LINE: Final = 140


def lines(problem: Problem) -> list[str]:
    """The sentence; the source line with its number; the mark."""
    told = [str(problem)]
    source = _source(problem.file)
    if 0 < problem.line <= len(source) and source[problem.line - 1].strip():
        written = source[problem.line - 1].replace("\t", " ").rstrip()
        shown = _USERINFO.sub(lambda match: match[1] + "*" * (len(match[0]) - 4) + match[2], written)
        if len(shown) <= _MAX_LINE:
            width = max(1, min(problem.width, len(shown) - problem.column + 1))
            told.append(f"{problem.line:5} | {shown}")
            told.append(f"      | {' ' * (problem.column - 1)}{'^' * width}")
    return told


def text(problems: Iterable[Problem]) -> str:
    """All of them, one after the other."""
    return "\n".join(line for problem in problems for line in lines(problem))


@cache
def _source(file: str) -> tuple[str, ...]:
    try:
        return tuple(Path(file).read_text(encoding="utf-8-sig").splitlines())
    except (OSError, ValueError):
        return ()
