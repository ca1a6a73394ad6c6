"""The running agent's HTTP API, as the commands use it."""

from __future__ import annotations

import argparse
import http.client
import os
from typing import Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from agent.cli import defaults

TOKEN_VARIABLE: Final = "GAIA_TOKEN"  # noqa: S105 - the variable's name, not a token
_TIMEOUT_S: Final = 10.0
_MAX_BYTES: Final = 64 * 1024 * 1024

T = TypeVar("T")


class ApiError(Exception):
    """The agent did not answer, or refused; the message says which and what to do."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--url` and `--json`, the same for every command that asks the agent."""
    parser.add_argument(
        "--url", default=defaults.url(), help="the agent's address (default %(default)s, or $GAIA_URL)"
    )
    parser.add_argument("--json", action="store_true", help="the API's answer instead of lines for people")


class NotThereError(ApiError):
    """The agent answered that it has nothing of that name."""


class Api:
    """One agent. Writes send the token of $GAIA_TOKEN."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ApiError(f'"{url}" is no address of an agent: write http://host:port')
        self._parts = parts
        self._url = url.rstrip("/")

    def get(self, path: str, answer: type[T]) -> T:
        """GET a JSON document, decoded as `answer`. Raises ApiError."""
        return self._decoded(self.call("GET", path), answer)

    def send(self, method: str, path: str, body: object, answer: type[T]) -> T:
        """POST or DELETE with a JSON body, decoded as `answer`. Raises ApiError."""
        return self._decoded(self.call(method, path, msgspec.json.encode(body)) or b"null", answer)

    def call(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """The answer's body as it is. Raises ApiError with the agent's own words when it refuses."""
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(self._parts.hostname or "", self._parts.port, timeout=_TIMEOUT_S)
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        token = os.environ.get(TOKEN_VARIABLE)
        if token and method != "GET":
            headers["Authorization"] = f"Bearer {token}"
        try:
            connection.request(method, self._parts.path.rstrip("/") + path, body, headers)
            response = connection.getresponse()
            content = response.read(_MAX_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(f"no agent answers at {self._url}: {error}; is it running? try --url") from error
        finally:
            connection.close()
        if response.status >= http.client.BAD_REQUEST:
            refusal = NotThereError if response.status == http.client.NOT_FOUND else ApiError
            raise refusal(_said(content) or f"{self._url}{path} answers {response.status} {response.reason}")
        return content

    def _decoded(self, content: bytes, answer: type[T]) -> T:
        try:
            return msgspec.json.decode(content, type=answer)
        except msgspec.DecodeError as error:
            raise ApiError(f"{self._url} does not answer like a gaia agent: {error}") from error


class _Problem(msgspec.Struct):
    detail: str


def _said(content: bytes) -> str:
    """The sentence of a refusal: a problem's detail, or the bare text of Alertmanager's API."""
    try:
        said = msgspec.json.decode(content, type=_Problem | str)
    except msgspec.DecodeError:
        return ""
    return said if isinstance(said, str) else said.detail
