"""A retry budget: retries may add a tenth to the traffic, so that a failing service is not buried by them."""

from __future__ import annotations


class RetryBudget:
    """Every request pays in `ratio` of a retry; a retry takes out a whole one. Pure: no clock."""

    def __init__(self, *, ratio: float = 0.1, reserve: float = 3.0, limit: float = 20.0) -> None:
        self._ratio = ratio
        self._limit = limit
        self._balance = reserve

    def deposit(self) -> None:
        self._balance = min(self._limit, self._balance + self._ratio)

    def withdraw(self) -> bool:
        """Whether a retry is affordable; if so it is paid."""
        if self._balance < 1:
            return False
        self._balance -= 1
        return True
