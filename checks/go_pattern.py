r"""Regular expressions as Go reads them (RE2 syntax), written for Python's `re`. Pure.

https://github.com/google/re2/wiki/Syntax. The two differ where nobody looks: `$` before a final line end,
`\d` for digits of all scripts, POSIX classes. What cannot mean the same is refused, not approximated.
"""

from __future__ import annotations

import re
from typing import Final

_POSIX: Final = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7F",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1F\x7F",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
}
_CLASS: Final = re.compile(r"\[:(\^?)(\w+):\]")
_FLAGS: Final = re.compile(r"\(\?([imsU]*)(?:-([imsU]+))?(\)|:)")
_NAME: Final = re.compile(r"\(\?P?<(\w+)>")
# Python counts the vertical tab as a space.
_SPACES: Final = {"s": r"[\t\n\f\r ]", "S": r"[^\t\n\f\r ]"}
# Escapes that both read alike; the others are refused. Go has no references to groups.
_SAME: Final = frozenset("aftnrv\\dDsSwWbBA0x") | frozenset(r".+*?()|[]{}^$-/\"'#&~%@!,:;<>=_` ")


def python_pattern(pattern: str) -> str:
    """`pattern` for Python's `re`. Raises ValueError when it is none, or cannot mean the same."""
    translated = _Translation(pattern).whole()
    try:
        re.compile(translated)
    except (re.error, OverflowError) as error:
        said = getattr(error, "msg", error)
        raise ValueError(f'"{pattern}" is no regular expression: {said}') from error
    return translated


class _Translation:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._multiline = False

    def whole(self) -> str:
        # Classes such as \d and \w are those of ASCII.
        parts = [f"(?a{self._leading_flags()})"]
        while self._at < len(self._pattern):
            parts.append(self._next())
        return "".join(parts)

    def _leading_flags(self) -> str:
        match = _FLAGS.match(self._pattern)
        if match is None or match[3] != ")":
            return ""
        if match[2] or "U" in match[1]:
            raise self._refused(match[0])
        self._at = match.end()
        self._multiline = "m" in match[1]
        return match[1]

    def _next(self) -> str:
        letter = self._pattern[self._at]
        if letter == "\\":
            return self._escape()
        if letter == "[":
            return self._set()
        if letter == "(":
            return self._group()
        self._at += 1
        if letter == "$" and not self._multiline:
            return r"\Z"
        return letter

    def _escape(self) -> str:
        letter = self._pattern[self._at + 1 : self._at + 2]
        if letter == "Q":
            start = self._at + 2
            end = self._pattern.find("\\E", start)
            self._at = len(self._pattern) if end < 0 else end + 2
            return re.escape(self._pattern[start : end if end >= 0 else None])
        if letter == "z":
            self._at += 2
            return r"\Z"
        if letter == "x" and self._pattern.startswith("\\x{", self._at):
            match = re.compile(r"\\x\{([0-9A-Fa-f]{1,6})\}").match(self._pattern, self._at)
            if match is None or int(match[1], 16) > 0x10FFFF:
                raise self._refused("\\x{")
            self._at = match.end()
            return f"\\U{int(match[1], 16):08x}"
        if letter not in _SAME:
            raise self._refused(f"\\{letter}")
        self._at += 2
        return _SPACES.get(letter, f"\\{letter}")

    def _set(self) -> str:
        """A class `[...]`, with POSIX classes written out."""
        parts = ["["]
        self._at += 1
        if self._pattern.startswith("^", self._at):
            parts.append("^")
            self._at += 1
        first = True
        while True:
            letter = self._pattern[self._at : self._at + 1]
            if not letter:
                raise ValueError(f'"{self._pattern}" is no regular expression: missing closing ]')
            if letter == "]" and not first:
                self._at += 1
                return "".join([*parts, "]"])
            first = False
            match = _CLASS.match(self._pattern, self._at)
            if match is not None:
                if match[1] or match[2] not in _POSIX:
                    raise self._refused(match[0])
                parts.append(_POSIX[match[2]])
                self._at = match.end()
            elif letter == "\\":
                if self._pattern.startswith("\\S", self._at):
                    raise self._refused("\\S in []")
                parts.append(self._escape().replace(_SPACES["s"], _SPACES["s"][1:-1]))
            else:
                # Python warns of sets within sets, and means something else by && and the like.
                parts.append(f"\\{letter}" if letter in "[]&~|" else letter)
                self._at += 1

    def _group(self) -> str:
        flags = _FLAGS.match(self._pattern, self._at)
        if flags is not None:
            # Flags in the middle, to the end of their group, are Go's alone.
            if flags[3] == ")" or "U" in flags[1] + (flags[2] or "") or "m" in flags[1] + (flags[2] or ""):
                raise self._refused(flags[0])
            self._at = flags.end()
            return flags[0]
        name = _NAME.match(self._pattern, self._at)
        if name is not None:
            self._at = name.end()
            return f"(?P<{name[1]}>"
        if self._pattern.startswith("(?", self._at):
            raise self._refused(self._pattern[self._at : self._at + 3])
        self._at += 1
        return "("

    def _refused(self, part: str) -> ValueError:
        return ValueError(f'"{self._pattern}": {part} is not supported here')
