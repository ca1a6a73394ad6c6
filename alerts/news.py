"""How much news may be told: new kinds of ERROR log events are many at once, and the rest waits."""

from __future__ import annotations

from collections import deque
from typing import Final

from msgspec import Struct, field

_AT_MOST: Final = 5
_WITHIN_S: Final = 600.0


class NewsRate(Struct):
    """Messages within ten minutes; what waits is told with the next."""

    _told: deque[float] = field(default_factory=deque)

    def told(self, now_s: float) -> None:
        """One was told."""
        self._told.append(now_s)

    def may_go(self, now_s: float) -> bool:
        """Whether another may be told now; it is counted when it may."""
        while self._told and not 0 <= now_s - self._told[0] < _WITHIN_S:
            self._told.popleft()
        if len(self._told) >= _AT_MOST:
            return False
        self._told.append(now_s)
        return True
