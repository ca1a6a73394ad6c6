"""`${VAR}`, `${VAR:-default}` and `{env}` in one pass: what a variable holds is never read again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

_MARK: Final = re.compile(
    r"(?P<escaped>\$\$\{)"
    r"|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>(?:[^{}]|\{env\})*))?\}"
    r"|(?P<broken>\$\{)"
    r"|(?P<env>\{env\})"
)


class Expanded(msgspec.Struct, frozen=True, gc=False):
    """A value after expansion.

    `unset` names the variables without a value, whose marks stay in the text; `from_environment` says
    that the text must not be shown; `broken` that a `${` does not end as a variable.
    """

    text: str
    unset: tuple[str, ...] = ()
    from_environment: bool = False
    broken: bool = False


def expand(text: str, *, alias: str, environ: Mapping[str, str]) -> Expanded:
    """`text` with `{env}` as `alias` and variables from `environ`; an empty variable counts as unset."""
    if "{" not in text:
        return Expanded(text)
    unset: list[str] = []
    from_environment = broken = False

    def replace(match: re.Match[str]) -> str:
        nonlocal from_environment, broken
        if match["env"]:
            return alias
        if match["escaped"]:
            return "${"
        if match["broken"]:
            broken = True
            return match[0]
        from_environment = True
        value, default = environ.get(match["name"], ""), match["default"]
        if value or default is None:
            unset.extend(() if value else (match["name"],))
            return value or match[0]
        return str(default).replace("{env}", alias)

    return Expanded(_MARK.sub(replace, text), tuple(unset), from_environment, broken)
