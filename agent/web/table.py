"""The table of routes: which handler answers a path and a method."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus

from agent.web.exchange import Refused
from agent.web.routes import Route


class Table:
    """Finds the route of a path and method."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._plain: dict[str, dict[str, Route]] = {}
        self._patterns: dict[str, tuple[re.Pattern[str], dict[str, Route]]] = {}
        for route in routes:
            if "{" in route.path:
                pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(route.path))
                self._patterns.setdefault(route.path, (re.compile(pattern), {}))[1][route.method] = route
            else:
                self._plain.setdefault(route.path, {})[route.method] = route

    def find(self, method: str, path: str) -> tuple[Route, Mapping[str, str]]:
        """Raises Refused: nothing is there, or not for this method."""
        methods, parameters = self._methods(path)
        if methods is None:
            raise Refused(
                HTTPStatus.NOT_FOUND, "nothing is at this address; /api/v1/openapi.json lists what is"
            )
        route = methods.get("GET" if method == "HEAD" else method)
        if route is None:
            allowed = sorted({*methods, *({"HEAD"} if "GET" in methods else set())})
            raise NotAllowed(", ".join(allowed))
        return route, parameters

    def _methods(self, path: str) -> tuple[dict[str, Route] | None, Mapping[str, str]]:
        plain = self._plain.get(path)
        if plain is not None:
            return plain, {}
        for pattern, methods in self._patterns.values():
            match = pattern.fullmatch(path)
            if match is not None:
                return methods, match.groupdict()
        return None, {}


class NotAllowed(Refused):
    """The address exists, for the methods in `allowed` only."""

    def __init__(self, allowed: str) -> None:
        super().__init__(HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.METHOD_NOT_ALLOWED.phrase)
        self.allowed = allowed
