"""Five dialects of health documents, and no crash on anything else."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.finding import Claim, State
from checks.health_document import read
from checks.health_document.document import Dialect

UP, DOWN, DEGRADED, UNKNOWN = State.UP, State.DOWN, State.DEGRADED, State.UNKNOWN


def said(**claims: State) -> tuple[tuple[str, State], ...]:
    return tuple(claims.items())


DOCUMENTS = (
    (
        "draft-inadarei",
        {
            "status": "warn",
            "version": "1",
            "checks": {
                "postgres:responseTime": [{"status": "pass"}, {"status": "fail", "output": "late"}],
                "nats:connections": [{"status": "pass"}],
            },
        },
        (Dialect.HEALTH_JSON, DEGRADED, said(postgres=DOWN, nats=UP)),
    ),
    ("bare", {"status": "pass"}, (Dialect.HEALTH_JSON, UP, ())),
    (
        "spring",
        {
            "status": "DOWN",
            "components": {
                "db": {"status": "DOWN", "details": {"error": "refused"}},
                "disk": {"status": "UP", "components": {"a": {"status": "OUT_OF_SERVICE"}}},
            },
        },
        (Dialect.ACTUATOR, DOWN, (("db", DOWN), ("disk", UP), ("disk/a", DOWN))),
    ),
    ("spring-bare", {"status": "UP"}, (Dialect.ACTUATOR, UP, ())),
    (
        "microprofile",
        {
            "status": "DOWN",
            "checks": [{"name": "db", "status": "DOWN", "data": {}}, {"name": "x", "status": "UP"}],
        },
        (Dialect.MICROPROFILE, DOWN, said(db=DOWN, x=UP)),
    ),
    (
        "aspnet",
        {
            "status": "Degraded",
            "totalDuration": "00:00:00.05",
            "entries": {"sql": {"status": "Unhealthy", "description": "no"}, "mq": {"status": "Healthy"}},
        },
        (Dialect.ASPNET, DEGRADED, said(sql=DOWN, mq=UP)),
    ),
    (
        "fastapi",
        {
            "status": "healthy",
            "services": {"auth": "healthy", "asset": {"status": "degraded"}},
            "database": {"status": "unhealthy"},
            "nats_connected": False,
            "uptime": 12,
            "debug": True,
        },
        (Dialect.PLAIN, UP, said(auth=UP, asset=DEGRADED, database=DOWN, nats=DOWN)),
    ),
    ("flag", {"healthy": True, "database": "connected"}, (Dialect.PLAIN, UP, said(database=UP))),
    ("ok", {"ok": False}, (Dialect.PLAIN, DOWN, ())),
    ("starting", {"status": "starting"}, (Dialect.PLAIN, State.STARTING, ())),
)


@pytest.mark.parametrize(
    ("tree", "wanted"), [case[1:] for case in DOCUMENTS], ids=[str(case[0]) for case in DOCUMENTS]
)
def test_each_dialect_is_read(tree: object, wanted: object) -> None:
    document = read(json.dumps(tree).encode())
    assert document is not None
    claims = tuple((claim.about, claim.state) for claim in document.claims)
    assert (document.dialect, document.state, claims) == wanted


def test_the_worst_entry_of_a_component_counts_with_its_output() -> None:
    document = read(json.dumps(DOCUMENTS[0][1]).encode())
    assert document is not None
    assert document.claims[0] == Claim(about="postgres", state=DOWN, output="late")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"ok",
        b"[]",
        b"{",
        b'{"user": "x"}',
        b'{"status": 200}',
        b'{"status": "weird"}',
        b'{"status": true}',
        b'{"a": ' * 5000 + b"1" + b"}" * 5000,
        b'{"status":"pass"}' + b" " * (1 << 21),
    ],
)
def test_what_is_no_health_document_is_none(body: bytes) -> None:
    assert read(body) is None


KEYS = st.sampled_from(
    [
        "status",
        "checks",
        "components",
        "entries",
        "details",
        "services",
        "database",
        "name",
        "output",
        "x",
        "nats_ok",
    ]
)
WORDS = st.sampled_from(["pass", "UP", "Unhealthy", "DOWN", "warn", "", "weird"]) | st.text(max_size=5)
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=40,
)


@settings(deadline=None)  # a busy machine is no finding
@given(st.dictionaries(KEYS, TREES, max_size=8))
def test_any_json_object_is_a_bounded_document_or_none(tree: dict[str, object]) -> None:
    document = read(msgspec.json.encode(tree))
    if document is not None:
        assert len(document.claims) <= 100
        assert all(len(claim.about) <= 100 and len(claim.output) <= 300 for claim in document.claims)


@settings(deadline=None)  # a busy machine is no finding
@given(st.binary(max_size=300))
def test_any_bytes_are_a_document_or_none(body: bytes) -> None:
    read(body)


STATES = st.sampled_from(["up", "degraded", "down"])
SPELLINGS = {
    "health+json": {"up": "pass", "degraded": "warn", "down": "fail"},
    "actuator": {"up": "UP", "degraded": "UP", "down": "DOWN"},
    "microprofile": {"up": "UP", "degraded": "UP", "down": "DOWN"},
    "aspnet": {"up": "Healthy", "degraded": "Degraded", "down": "Unhealthy"},
    "plain": {"up": "healthy", "degraded": "degraded", "down": "unhealthy"},
}


def written(dialect: str, state: str, parts: dict[str, str]) -> dict[str, object]:
    """A document in one dialect that says `state` of itself and `parts` of its dependencies."""
    words = SPELLINGS[dialect]
    named = {name: {"status": words[part]} for name, part in parts.items()}
    match dialect:
        case "health+json":
            return {"status": words[state], "checks": {f"{name}:time": [one] for name, one in named.items()}}
        case "actuator":
            return {"status": words[state], "components": named}
        case "microprofile":
            listed = [{"name": name, **one} for name, one in named.items()]
            return {"status": words[state], "checks": listed}
        case "aspnet":
            return {"status": words[state], "totalDuration": "00:00:00.1", "entries": named}
        case _:
            return {"status": words[state], "services": named}


@settings(deadline=None)  # a busy machine is no finding
@given(
    st.sampled_from(list(SPELLINGS)),
    STATES,
    st.dictionaries(st.text("abcdefgh-_", min_size=1, max_size=8), STATES, min_size=1, max_size=6),
)
def test_each_dialect_is_read_back_as_it_was_written(dialect: str, state: str, parts: dict[str, str]) -> None:
    document = read(msgspec.json.encode(written(dialect, state, parts)))
    assert document is not None
    dull = dialect in ("actuator", "microprofile")  # they have no word for degraded
    said = {"degraded": "up"} if dull else {}
    assert (document.dialect, document.state) == (dialect, said.get(state, state))
    assert {claim.about: claim.state for claim in document.claims} == {
        name: said.get(part, part) for name, part in parts.items()
    }
