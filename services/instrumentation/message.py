"""What services say to each other over a broker, in words of no library."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """One received message. `delivered` counts from 1; more means a redelivery."""

    subject: str
    data: bytes
    headers: Mapping[str, str]
    delivered: int = 1


Subscriber = Callable[[Message], Awaitable[None]]
"""Handles one message of a subscription."""


class LinkError(Exception):
    """The broker did not do as asked; `kind` is bounded enough to be a label."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind
