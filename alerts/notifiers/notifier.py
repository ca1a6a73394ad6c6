"""The seam for every way to tell somebody."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from alerts.notice import Notice


class Delivery(Struct, frozen=True, kw_only=True):
    """Accepted: the HTTP status if there was one, and what the provider calls the message."""

    status: int | None = None
    ref: str | None = None


class NotifyError(Exception):
    """Not accepted. `retryable`: the same message may succeed later, not before `retry_after_s`."""

    def __init__(
        self,
        message: str,
        *,
        retryable: bool,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.status = status
        self.retry_after_s = retry_after_s


class Notifier(Protocol):
    """One configured way. Used from its channel's own threads, never from the event loop."""

    # Whether the provider itself merges messages of one episode: then a trigger and its resolve both go out.
    dedups: bool

    def deliver(self, notice: Notice, *, deadline_s: float, ref: str | None = None) -> Delivery:
        """Tell, within `deadline_s` seconds as well as it can. `ref` is what an earlier message was called.

        Raises NotifyError. An OSError or TimeoutError counts as retryable; anything else is a defect and is
        retried too, because losing a page is worse.
        """
        ...

    def warm(self) -> None:
        """Import what the first delivery needs, so that a page does not wait for it."""
        ...
