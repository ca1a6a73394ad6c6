"""How much one client may send: a bucket of bytes for each address. Pure: the time is given."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Final

from agent.telemetry.signals import Rejected

_BURST_S: Final = 2.0
_MAX_CLIENTS: Final = 4096
# Python's SDK drops at once what it should send again later than its own ten seconds: never far ahead.
_LONGEST_S: Final = 2


class ClientLimit:
    """`bytes_per_s` for each client, twice that at once. What was taken is owed; a debtor waits."""

    def __init__(self, bytes_per_s: int) -> None:
        self._rate = bytes_per_s
        self._burst = bytes_per_s * _BURST_S
        # Bytes left, below 0 when owed, as of a second; the longest quiet first.
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def admit(self, client: str, now_s: float) -> None:
        """Raise Rejected 429 while the client owes."""
        left = self._at(client, now_s)
        if left < 0:
            wait_s = min(_LONGEST_S, max(1, math.ceil(-left / self._rate)))
            text = f"more than {self._rate} bytes a second from {client}: send it again in a moment"
            raise Rejected(429, text, retry_after_s=wait_s)

    def took(self, client: str, size: int, now_s: float) -> None:
        """`size` bytes of the client were read."""
        self._left[client] = (self._at(client, now_s) - size, now_s)
        self._left.move_to_end(client)
        if len(self._left) > _MAX_CLIENTS:
            self._left.popitem(last=False)

    def _at(self, client: str, now_s: float) -> float:
        left, at_s = self._left.get(client, (self._burst, now_s))
        return min(self._burst, left + (now_s - at_s) * self._rate)
