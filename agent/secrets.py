"""Every secret of a configuration, so that the log can be kept free of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import unquote, urlsplit

import msgspec

from agent.platform.scope import Scope
from checks.secret import Secret


def secrets(scopes: tuple[Scope, ...]) -> frozenset[str]:
    """The text of every Secret, and for those that are URLs their password alone as well."""
    return frozenset(
        text for scope in scopes for secret in _within(scope) for text in _forms(secret.reveal())
    )


def _within(value: object) -> Iterator[Secret]:
    if isinstance(value, Secret):
        yield value
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from _within(getattr(value, name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _within(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _within(item)


def _forms(text: str) -> Iterator[str]:
    yield text
    try:
        password = urlsplit(text).password
    except ValueError:
        return
    if password:
        yield password
        yield unquote(password)
