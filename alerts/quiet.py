"""What keeps a firing alert untold: the silences that people set and the windows they planned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from alerts import maintenance
from alerts.instance import Instance
from alerts.plan import Graph
from alerts.receiver import MaintenanceWindow
from alerts.silence import Silence, silencing, validated


class Quiet:
    """Every silence remembered. `active` are the alerts that are not OK, by component: the judge's own."""

    def __init__(self, silences: Iterable[Silence], active: Mapping[str, list[Instance]]) -> None:
        self._silences = {one.id: one for one in silences}
        self._active = active

    def all(self) -> tuple[Silence, ...]:
        """Every silence, ended ones of the last days included."""
        return tuple(self._silences.values())

    def add(self, silence: Silence, now_s: float) -> None:
        """Put a silence in force. Raises ValueError when it has no end, author, comment or matcher."""
        self._silences[silence.id] = validated(silence, now_s)

    def expire(self, silence_id: str, now_s: float) -> Silence | None:
        """End a silence now; the ended one, None when there is none in force."""
        silence = self._silences.get(silence_id)
        if silence is None or silence.ends_at_s <= now_s:
            return None
        return self._end(silence, now_s)

    def resolved(self, instance: Instance, now_s: float) -> list[Silence]:
        """An alert is over: the silences that end with the last alert they match."""
        return [
            self._end(silence, now_s)
            for silence in tuple(self._silences.values())
            if silence.expire_on_resolve and silence.active(now_s) and silence.matches(instance.labels)
            and not any(silence.matches(one.labels) for alerts in self._active.values() for one in alerts)
        ]  # fmt: skip

    def mark(
        self, on: Iterable[Instance], windows: tuple[MaintenanceWindow, ...], graph: Graph, now_s: float
    ) -> None:
        """Say of each firing alert what keeps it untold, if anything does."""
        silences = [one for one in self._silences.values() if one.active(now_s)]
        for instance in on:
            instance.silenced_by = ""
            if silences or windows:
                instance.silenced_by = self._silenced(instance, silences, graph, now_s) or _planned(
                    instance, windows, now_s
                )

    def _silenced(self, instance: Instance, silences: list[Silence], graph: Graph, now_s: float) -> str:
        labels = instance.labels | instance.rule.labels | {"severity": instance.rule.severity.value}
        found = silencing(silences, labels, now_s)
        if found is not None:
            return found.id
        for cause in graph.causes(instance.component):
            above = self._active.get(cause, ())
            for silence in silences:
                if silence.covers_dependents and any(silence.matches(one.labels) for one in above):
                    return silence.id
        return ""

    def _end(self, silence: Silence, now_s: float) -> Silence:
        ended = msgspec.structs.replace(silence, ends_at_s=now_s, starts_at_s=min(silence.starts_at_s, now_s))
        self._silences[silence.id] = ended
        return ended


def _planned(instance: Instance, windows: tuple[MaintenanceWindow, ...], now_s: float) -> str:
    window = maintenance.open_window(windows, instance.component, now_s)
    return f"maintenance: {window.name}" if window is not None else ""
