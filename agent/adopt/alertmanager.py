"""An alertmanager.yml as tables of gaia.yaml: receivers and what they take, windows, who depends on whom."""

from __future__ import annotations

from typing import Final

from agent.adopt.adopted import Adopted, Table, items_of
from agent.adopt.inhibits import dependencies
from agent.adopt.receivers import ReceiverReader
from agent.adopt.routes import Routes
from agent.adopt.times import intervals
from agent.platform.tree import Mapping

_READ: Final = frozenset({
    "receivers", "route", "inhibit_rules", "time_intervals", "mute_time_intervals", "global",
})  # fmt: skip
_SAID: Final = {
    "templates": "the words are made here, the same for every receiver",
    "resolve_timeout": "an alert of others that is not confirmed lasts five minutes",
}
_POLICIES: Final = {"development": "basic", "staging": "basic"}


def adopt(root: Mapping, *, platform: str, services: frozenset[str] | None = None) -> tuple[Table, Adopted]:
    """Tables for a file of its own, or with `services` (those of a gaia.yaml) for one laid over it."""
    adopted = Adopted()
    routes = Routes(adopted=adopted, intervals=intervals(root, adopted), components=services or frozenset())
    tree = root.get("route")
    if tree is not None:
        routes.read(tree)
    receivers: Table = {}
    reader = ReceiverReader(root, adopted)
    for node in items_of(root.get("receivers")):
        name, table = reader.read(node)
        if table:
            receivers[name] = table | routes.taken_by(name)
        elif any(way.receiver == name for way in routes.ways):
            adopted.leave(node.at, f"receivers.{name}", "it has nothing here that can be called: nobody is")
    _rest(root, adopted)
    alerts: Table = {"receivers": receivers}
    if routes.windows:
        alerts["maintenance"] = routes.windows
    document: Table = {}
    if services is None:
        names = routes.environments() or ["production"]
        document = {
            "platform": platform,
            "environments": {name: {"alerts": _POLICIES.get(name, "comprehensive")} for name in names},
        }
    needs = _needs(root, adopted, services)
    if needs:
        document["services"] = needs
    document["alerts"] = alerts
    adopted.left.sort(key=lambda one: one.at)
    return document, adopted


def _needs(root: Mapping, adopted: Adopted, services: frozenset[str] | None) -> Table:
    """`depends_on` of the services that there are; of others it is said where to write it."""
    found: Table = {}
    for name, need in dependencies(root, adopted).items():
        if services is not None and name in services:
            found[name] = {"depends_on": list(need.names)}
        else:
            said = f"write services.{name}.depends_on: [{', '.join(need.names)}]"
            adopted.leave(need.at, "inhibit_rules", said)
    return found


def _rest(root: Mapping, adopted: Adopted) -> None:
    for key, entry in root.entries.items():
        if key not in _READ:
            adopted.leave(entry.at, key, _SAID.get(key, "has no equivalent"))
    general = root.get("global")
    if isinstance(general, Mapping):
        for key, entry in general.entries.items():
            if not key.startswith(("smtp_", "slack_", "opsgenie_")):
                adopted.leave(entry.at, f"global.{key}", _SAID.get(key, "has no equivalent"))
