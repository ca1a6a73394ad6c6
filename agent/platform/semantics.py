"""What no single table can know: references, cycles, windows, sizes, and topologies that cannot work."""

from __future__ import annotations

from collections.abc import Mapping as MappingType

from agent.platform.problem import Problems
from agent.platform.scope import Scope
from agent.platform.tree import Mapping


def check(root: Mapping, scopes: MappingType[str, Scope], problems: Problems) -> None:
    """Note every contradiction of the file with itself and with what the platform can give."""
