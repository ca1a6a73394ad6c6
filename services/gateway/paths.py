"""Which paths may pass: nothing that an upstream could read as another place than the route it came in by."""

from __future__ import annotations

import re
from typing import Final

from services.instrumentation.problem import ProblemError

ROUTES: Final = {"/api/v1/auth/": "auth", "/api/v1/assets": "asset", "/api/v1/chat/": "chat"}

# Encoded dot, slash, backslash and NUL, doubly encoded percent signs, empty and dot segments: none has an
# honest use in our paths.
_TRICKS: Final = re.compile(r"%(?:2[eEfF5]|5[cC]|00)|//|/\.{1,2}(?:/|$)")
_ALLOWED: Final = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*")
_LONGEST: Final = 4096


def route_of(raw_path: str) -> tuple[str, str]:
    """(route prefix, service) for a raw path without its query. Raises ProblemError 400, 404 or 414."""
    if len(raw_path) > _LONGEST:
        raise ProblemError(414, "the path is too long", reason="path_too_long")
    if not _ALLOWED.fullmatch(raw_path) or _TRICKS.search(raw_path):
        raise _refused()
    for prefix, service in ROUTES.items():
        if raw_path.startswith(prefix) and (
            len(raw_path) == len(prefix) or prefix[-1] == "/" or raw_path[len(prefix)] == "/"
        ):
            return prefix.rstrip("/"), service
    raise ProblemError(404, "there is nothing here", reason="not_found")


def _refused() -> ProblemError:
    return ProblemError(
        400, "the path holds dot segments, encoded separators or stray characters", reason="unsafe_path"
    )
