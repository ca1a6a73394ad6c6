"""The series of the telemetry intake: what came, what went on, what did not."""

from __future__ import annotations

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
    )
}
_LOG_BYTES: Final = Shape("gaia_telemetry_log_bytes", owned=False)


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
        for (signal_name, code), count in figures.refused.items():
            self._put("refused_total", (("signal", signal_name), ("code", str(code))), count)
        for service, count in figures.error_logs.items():
            self._put("error_logs_total", (("env", env), ("service", service)), count)
        self._document.put("gaia_telemetry_log_bytes", "", _LOG_BYTES, (figures.log_bytes,))

    def _put(self, name: str, owner: tuple[tuple[str, str], ...], value: int) -> None:
        self._document.put(_PREFIX + name, label_text(owner), _OWNED[name], (value,))
