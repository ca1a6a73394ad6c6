"""What the intake says of itself: for /metrics, the page and the agent's own health."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from agent.telemetry.ledger import Account
from agent.telemetry.signals import Signal


class Figures(Struct, frozen=True, kw_only=True):
    """Totals are since the first start ever, save `refused` and those below it: since this start.

    `error_logs` are by service; `accounts` by destination and signal, as of the last audit. `folded` names
    the services with too many routes and the first routes that were folded. `destinations` says why nothing
    is sent to one, empty where all is well; `away` what those answer that are tried again and again.
    """

    received: Mapping[Signal, int]
    error_logs: Mapping[str, int]
    accounts: Mapping[tuple[str, Signal], Account]
    refused: Mapping[tuple[str, int], int]
    retried: int
    log_bytes: int
    damaged_bytes: int
    failed_writes: int
    in_flight_bytes: int
    folded: Mapping[str, tuple[str, ...]]
    folded_requests: Mapping[str, float] = {}
    log_records: Mapping[tuple[str, str, str], int] = {}
    oldest_unsent_s: Mapping[tuple[str, Signal], float] = {}
    destinations: Mapping[str, str] = {}
    away: Mapping[str, str] = {}

    @property
    def trouble(self) -> str | None:
        """One sentence when a person must look; None when all is well."""
        for name, why in self.destinations.items():
            if why:
                return f"nothing is sent to {name}: {why}"
        for (name, signal), account in self.accounts.items():
            if account.missing:
                return f"{account.missing} items of {signal.value} for {name} are unaccounted for: report it"
        if self.damaged_bytes:
            return f"{self.damaged_bytes} bytes of the log were damaged and skipped: check the disk"
        for service, routes in self.folded.items():
            return (
                f"{service} has too many routes to count apart, {routes[0]} for one: give its spans an"
                " http.route without ids"
            )
        return None
