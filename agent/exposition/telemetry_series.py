"""The series of the telemetry intake: what came, what went on, what did not."""

from __future__ import annotations

from collections import Counter
from typing import Final

from agent.exposition.document import Document
from agent.exposition.family import Shape, label_text
from agent.telemetry.figures import Figures

_PREFIX: Final = "gaia_telemetry_"
_OWNED: Final = {
    name: Shape(_PREFIX + name)
    for name in (
        "received_total",
        "delivered_total",
        "queued",
        "dead_lettered_total",
        "evicted_total",
        "refused_total",
        "error_logs_total",
        "log_records_total",
        "folded_requests_total",
        "oldest_unsent_seconds",
        "unaccounted",
        "paused",
    )
}
_ALONE: Final = {
    name: Shape(_PREFIX + name, owned=False)
    for name in ("log_bytes", "repeated_total", "damaged_bytes_total", "failed_writes_total")
}


class TelemetrySeries:
    """Brings them up to date before a scrape, on the event loop."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def show(self, env: str, figures: Figures) -> None:
        """Make these the figures of the intake, which takes in for `env`."""
        for signal, received in figures.received.items():
            self._put("received_total", (("signal", signal.value),), received)
        for (name, signal), account in figures.accounts.items():
            owner = (("signal", signal.value), ("destination", name))
            self._put("delivered_total", owner, account.delivered)
            self._put("queued", owner, account.queued)
            self._put("dead_lettered_total", owner, account.dead)
            self._put("evicted_total", owner, account.evicted)
            self._put("unaccounted", owner, account.missing)
            self._put("oldest_unsent_seconds", owner, figures.oldest_unsent_s.get((name, signal), 0))
        for name, why in figures.destinations.items():
            self._put("paused", (("destination", name),), int(bool(why)))
        for (signal_name, code), count in figures.refused.items():
            self._put("refused_total", (("signal", signal_name), ("code", str(code))), count)
        for service, count in figures.error_logs.items():
            self._put("error_logs_total", (("env", env), ("service", service)), count)
        records: Counter[tuple[tuple[str, str], ...]] = Counter()
        for (service, said, level), count in figures.log_records.items():
            records[("env", said or env), ("service", service), ("level", level)] += count
        for labels, count in records.items():
            self._put("log_records_total", labels, count)
        for service, folded in figures.folded_requests.items():
            self._put("folded_requests_total", (("env", env), ("service", service)), folded)
        self._alone("log_bytes", figures.log_bytes)
        self._alone("repeated_total", figures.retried)
        self._alone("damaged_bytes_total", figures.damaged_bytes)
        self._alone("failed_writes_total", figures.failed_writes)

    def _alone(self, name: str, value: int) -> None:
        self._document.put(_PREFIX + name, "", _ALONE[name], (value,))

    def _put(self, name: str, owner: tuple[tuple[str, str], ...], value: float) -> None:
        self._document.put(_PREFIX + name, label_text(owner), _OWNED[name], (value,))
