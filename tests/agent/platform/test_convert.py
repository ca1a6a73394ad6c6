"""Both ways from the tree to a table, the quick and the careful one, say the same."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.platform.careful import MISSING, Careful
from agent.platform.convert import Reader
from agent.platform.effective import own_view
from agent.platform.expand import expand
from agent.platform.model import Agent, Environment, Security, Variable
from agent.platform.problem import Problems
from agent.platform.read import read
from agent.platform.tree import Mapping, Node, find
from alerts.receiver import Receiver
from alerts.rule import Rule
from checks.http.options import HttpOptions
from checks.postgres.options import PostgresOptions
from tests.agent.platform.files import ROOT_FILE, VARIABLES

ROOT = read(ROOT_FILE.read_bytes(), "gaia.yaml")


def tables() -> list[tuple[str, Node, Any]]:
    found: list[tuple[str, Node, Any]] = []
    for path, wanted in (
        (("environments",), Environment),
        (("variables",), Variable),
        (("alerts", "rules"), Rule),
        (("alerts", "receivers"), Receiver),
    ):
        section = find(ROOT, *path)
        assert isinstance(section, Mapping)
        found += [(name, own_view(entry.value, "staging"), wanted) for name, entry in section.entries.items()]
    for name, whole in (("agent", Agent), ("security", Security)):
        node = find(ROOT, name)
        assert node is not None
        found.append((name, node, whole))
    text = """\
expect: {status: [200, 2xx, 300-301], header: {a: b}, json: ["a.b == 1"]}
headers: {X-Key: "${ONCALL_URL}"}
auth: {basic: {username: me, password: "${ONCALL_URL}"}}
timeout: 1m30s
url: http://h
body_limit: 2KB
tls: {verify: false, max_version: null}
"""
    found.append(("http", read(text.encode(), "f"), HttpOptions))
    text = (
        "url: postgresql://h/d\nthresholds: {latency: {warn: 1s}, lock_wait: null, canary: {critical: 5s}}\n"
    )
    found.append(("postgres", read(text.encode(), "f"), PostgresOptions))
    return found


NAMED = {"Environment", "Variable"}


@pytest.mark.parametrize(
    ("name", "node", "wanted"), tables(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_quick_and_careful_agree(name: str, node: Node, wanted: Any) -> None:
    fixed = {"name": name} if getattr(wanted, "__name__", "") in NAMED else {}
    quick_problems, careful_problems = Problems(), Problems()
    reader = Reader("staging", "staging", VARIABLES, quick_problems)
    quick = (
        reader.table(node, wanted, key=name, fixed=fixed)
        if isinstance(wanted, type)
        else reader.value(node, wanted, key=name)
    )
    told = msgspec.inspect.type_info(wanted)
    careful_reader = Careful("staging", "staging", VARIABLES, careful_problems)
    careful = (
        careful_reader.struct(node, told, key=name, fixed=fixed)
        if isinstance(told, msgspec.inspect.StructType)
        else careful_reader.value(node, told, name)
    )
    assert quick_problems.all() == careful_problems.all() == ()
    assert careful is not MISSING
    assert careful == quick


@given(st.text(alphabet="ab${}:-_9e nv", max_size=30))
def test_what_a_variable_holds_is_never_expanded_again(held: str) -> None:
    expanded = expand("<${X}>", alias="prod", environ={"X": held})
    assert expanded.text == (f"<{held}>" if held else "<${X}>")
    assert expanded.unset == (() if held else ("X",))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("{env}-{env}", "prod-prod"),
        ("${A}", "1"),
        ("${A}${B:-2}", "12"),
        ("${EMPTY:-x}", "x"),
        ("${B:-}", ""),
        ("$A {other} {2,3} $", "$A {other} {2,3} $"),
        ("$${A} $${env}", "${A} ${env}"),
        ("${B:-a:-b}", "a:-b"),
        ("${B:-http://x-{env}.fly.dev}/", "http://x-prod.fly.dev/"),
    ],
)
def test_expansion(text: str, expected: str) -> None:
    expanded = expand(text, alias="prod", environ={"A": "1", "EMPTY": ""})
    assert (expanded.text, expanded.unset, expanded.broken) == (expected, (), False)


@pytest.mark.parametrize("text", ["${", "${}", "${9}", "${A", "${A:+x}", "${A B}", "${A:-{}}"])
def test_a_broken_variable_is_noticed(text: str) -> None:
    assert expand(text, alias="prod", environ={"A": "1"}).broken
