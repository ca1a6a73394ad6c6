"""One environment's view of the tree: its own values over the general ones."""

from __future__ import annotations

from agent.platform.tree import Entry, Mapping, Node, overlay, without


def own_view(node: Node, environment: str) -> Node:
    """`node` with what `environments:` says of this environment laid over, and its own `resources`.

    Where `environments` is a list (a receiver's) it is left alone.
    """
    if not isinstance(node, Mapping):
        return node
    overrides = node.get("environments")
    view = without(node, "resources")
    if isinstance(overrides, Mapping):
        own = overrides.get(environment)
        view = without(view, "environments")
        if isinstance(own, Mapping):
            view = overlay(view, own)
    resources = node.entries.get("resources")
    if resources is not None and "resources" not in view.entries:
        sizes = resources.value
        # One size for all environments has the keys of a size; else it is a table of environments.
        size: Entry | None = resources
        if isinstance(sizes, Mapping) and "memory" not in sizes.entries:
            size = sizes.entries.get(environment)
        if size is not None:
            view.entries["resources"] = size
    return view
