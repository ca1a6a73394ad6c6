"""How fast a destination is sent to. Pure."""

from __future__ import annotations

import random
from typing import Final

from msgspec import Struct

RETRYABLE: Final = frozenset({0, 429, 502, 503, 504})
# Nobody is there, or we may not: a person must mend it, and nothing is lost meanwhile.
PAUSING: Final = frozenset({401, 403, 404, 405})
SPLITTING: Final = frozenset({400, 413})

_FIRST_S: Final = 1.0
_CAP_S: Final = 60.0
_MAX_ASKED_S: Final = 300.0
_STEP_BYTES: Final = 64 * 1024


class Pace(Struct):
    """Batch size grows by steps while all is well and halves when the backend asks for less.

    `first_s` is the longest first wait; waits double up to `cap_s`, with full jitter, without end.
    """

    max_bytes: int
    first_s: float = _FIRST_S
    cap_s: float = _CAP_S
    batch_bytes: int = 256 * 1024
    failures: int = 0

    def accepted(self) -> None:
        """The backend took a batch."""
        self.failures = 0
        self.batch_bytes = min(self.max_bytes, self.batch_bytes + _STEP_BYTES)

    def refused(self, *, status: int, asked_s: float | None) -> float:
        """Seconds to wait before the next try. What the backend asks for counts, up to five minutes."""
        self.failures += 1
        if status in {429, 413}:
            self.batch_bytes = max(_STEP_BYTES, self.batch_bytes // 2)
        if asked_s is not None:
            return min(asked_s, _MAX_ASKED_S) + random.uniform(0, 0.5)  # noqa: S311  # jitter
        longest = min(self.cap_s, self.first_s * 2.0 ** min(self.failures - 1, 30))
        return random.uniform(longest / 10, longest)  # noqa: S311  # jitter
