"""The rendered document, read back by prometheus_client's parsers."""

from __future__ import annotations

import asyncio
import gzip
import math
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as open_parser
from prometheus_client.parser import text_string_to_metric_families as parse_text

from agent.exposition.document import Document, Exemplar
from agent.exposition.family import Family, Line, Shape, Type, histogram_shape, label_text
from agent.exposition.negotiation import Format

RUNS = Family(name="gaia_probe_runs_total", type=Type.COUNTER, help="Probes run, by result.")
STATE = Family(name="gaia_target_state", type=Type.GAUGE, help='1 for the "current" state.\nElse 0 \\o/.')
LATENCY = Family(name="gaia_probe_latency_seconds", type=Type.HISTOGRAM, help="Latency.")
EDGES = (0.1, 1.0, 2.0)
LATENCY_SHAPE = histogram_shape(LATENCY.name, EDGES)
AUTH = label_text((("env", "production"), ("service", "auth")))
CHAT = label_text((("env", "production"), ("service", "chat")))

_values = st.floats(allow_nan=False) | st.integers(min_value=-(2**53), max_value=2**53)
# The text parser of prometheus_client splits lines as str.splitlines does; Prometheus only at LF.
_words = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]) | st.sampled_from('"\\\n{},=% '))
_names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(lambda name: name != "le")


def parse_open(text: str) -> list[Metric]:
    return list(open_parser.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]  # prometheus_client leaves it untyped


def samples(document: Document, form: Format) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = b"".join(document.render(form)).decode()
    parse = parse_open if form is Format.OPEN_METRICS else parse_text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): float(sample.value)
        for family in parse(text)
        for sample in family.samples
    }


@given(
    owner=st.dictionaries(_names, _words, min_size=1, max_size=4),
    rows=st.dictionaries(_words, _values, min_size=1, max_size=5),
    form=st.sampled_from(Format),
)
def test_what_goes_in_comes_out_whatever_the_labels_say(
    owner: dict[str, str], rows: dict[str, float], form: Format
) -> None:
    labels = {name: value for name, value in owner.items() if name != "state"}
    shape = Shape(STATE.name, tuple(Line(labels=(("state", word),)) for word in rows), owned=bool(labels))
    document = Document([STATE])
    document.put(STATE.name, label_text(tuple(labels.items())), shape, tuple(rows.values()))
    expected = {
        (STATE.name, tuple(sorted({**labels, "state": word}.items()))): float(value)
        for word, value in rows.items()
    }
    assert samples(document, form) == expected


@pytest.mark.parametrize("form", Format)
def test_values_that_are_no_numbers_are_spelled_as_the_formats_want(form: Format) -> None:
    shape = Shape(STATE.name, tuple(Line(labels=(("state", str(index)),)) for index in range(3)))
    document = Document([STATE])
    document.put(STATE.name, AUTH, shape, (math.nan, math.inf, -math.inf))
    lines = [line for line in b"".join(document.render(form)).decode().split("\n") if line.startswith("gaia")]
    assert [line.rsplit(" ", 1)[1] for line in lines] == ["NaN", "+Inf", "-Inf"]


def test_text_0_0_4_to_the_byte() -> None:
    document = Document([RUNS, STATE, LATENCY])
    document.put(RUNS.name, AUTH, Shape(RUNS.name, (Line(labels=(("result", "up"),)),)), (3,))
    document.put(LATENCY.name, AUTH, histogram_shape(LATENCY.name, EDGES), (1, 2, 2, 3, 3, 4.5))
    assert b"".join(document.render(Format.TEXT)).decode() == (
        "# HELP gaia_probe_runs_total Probes run, by result.\n"
        "# TYPE gaia_probe_runs_total counter\n"
        'gaia_probe_runs_total{env="production",service="auth",result="up"} 3\n'
        "# HELP gaia_probe_latency_seconds Latency.\n"
        "# TYPE gaia_probe_latency_seconds histogram\n"
        'gaia_probe_latency_seconds_bucket{env="production",service="auth",le="0.1"} 1\n'
        'gaia_probe_latency_seconds_bucket{env="production",service="auth",le="1.0"} 2\n'
        'gaia_probe_latency_seconds_bucket{env="production",service="auth",le="2.0"} 2\n'
        'gaia_probe_latency_seconds_bucket{env="production",service="auth",le="+Inf"} 3\n'
        'gaia_probe_latency_seconds_count{env="production",service="auth"} 3\n'
        'gaia_probe_latency_seconds_sum{env="production",service="auth"} 4.5\n'
    )


def test_openmetrics_names_counters_without_total_tells_units_and_ends_with_eof() -> None:
    document = Document([RUNS, LATENCY])
    document.put(RUNS.name, "", Shape(RUNS.name, owned=False), (3,))
    document.put(LATENCY.name, AUTH, histogram_shape(LATENCY.name, (2.0,)), (1, 1, 1, 0.5))
    assert b"".join(document.render(Format.OPEN_METRICS)).decode() == (
        "# HELP gaia_probe_runs Probes run, by result.\n"
        "# TYPE gaia_probe_runs counter\n"
        "gaia_probe_runs_total 3\n"
        "# HELP gaia_probe_latency_seconds Latency.\n"
        "# TYPE gaia_probe_latency_seconds histogram\n"
        "# UNIT gaia_probe_latency_seconds seconds\n"
        'gaia_probe_latency_seconds_bucket{env="production",service="auth",le="2.0"} 1\n'
        'gaia_probe_latency_seconds_bucket{env="production",service="auth",le="+Inf"} 1\n'
        'gaia_probe_latency_seconds_count{env="production",service="auth"} 1\n'
        'gaia_probe_latency_seconds_sum{env="production",service="auth"} 0.5\n'
        "# EOF\n"
    )


def test_help_survives_in_both_formats() -> None:
    document = Document([STATE])
    document.put(STATE.name, AUTH, Shape(STATE.name), (1,))
    for form, parse in ((Format.TEXT, parse_text), (Format.OPEN_METRICS, parse_open)):
        (family,) = parse(b"".join(document.render(form)).decode())
        assert family.documentation == STATE.help


def test_exemplars_are_told_in_openmetrics_only() -> None:
    document = Document([LATENCY])
    exemplar = Exemplar(
        labels=(("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736"),), value=1.7, at_s=1700000000.5
    )
    document.put(
        LATENCY.name, AUTH, histogram_shape(LATENCY.name, EDGES), (0, 0, 1, 1, 1, 1.7), {2: exemplar}
    )
    assert b"trace_id" not in b"".join(document.render(Format.TEXT))
    (family,) = parse_open(b"".join(document.render(Format.OPEN_METRICS)).decode())
    found = {sample.labels["le"]: sample.exemplar for sample in family.samples if sample.exemplar}
    assert [(le, told.labels, told.value, str(told.timestamp)) for le, told in found.items()] == [
        ("2.0", dict(exemplar.labels), 1.7, "1700000000.500000000")
    ]


def test_an_exemplar_larger_than_openmetrics_allows_is_left_out() -> None:
    assert not Exemplar(labels=(("trace_id", "x" * 121),), value=1.0, at_s=0.0).text()
    assert Exemplar(labels=(("trace_id", "x" * 120),), value=1.0, at_s=0.0).text()


def test_a_scrape_shows_changes_removals_and_nothing_stale() -> None:
    document = Document([STATE, RUNS])
    state, runs = Shape(STATE.name), Shape(RUNS.name)
    for owner in (AUTH, CHAT):
        document.put(STATE.name, owner, state, (1,))
        document.put(RUNS.name, owner, runs, (7,))
    assert len(samples(document, Format.TEXT)) == document.series == 4
    document.put(STATE.name, AUTH, state, (0,))
    document.forget(CHAT)
    document.remove(RUNS.name, AUTH)
    assert samples(document, Format.TEXT) == {
        (STATE.name, (("env", "production"), ("service", "auth"))): 0.0,
    }


def test_only_blocks_that_changed_are_formatted_again() -> None:
    document = Document([STATE])
    shape = Shape(STATE.name)
    document.put(STATE.name, AUTH, shape, (1,))
    document.put(STATE.name, CHAT, shape, (1,))
    first = b"".join(document.render(Format.TEXT))
    shape.template = "formatted again %r\n"
    document.put(STATE.name, AUTH, shape, (1,))  # The same value: not a change.
    assert b"".join(document.render(Format.TEXT)) == first
    document.put(STATE.name, CHAT, shape, (2,))
    assert b"".join(document.render(Format.TEXT)) == first.replace(
        b'gaia_target_state{env="production",service="chat"} 1', b"formatted again 2"
    )


def test_the_table_may_change_between_chunks() -> None:
    document = Document([STATE, RUNS])
    shape = Shape(STATE.name)
    owners = [label_text((("service", f"s{number}"),)) for number in range(4000)]
    for owner in owners:
        document.put(STATE.name, owner, shape, (1,))
    chunks = document.render(Format.TEXT)
    text = next(chunks)
    for owner in owners:
        document.forget(owner)
    document.declare(LATENCY)
    text += b"".join(chunks)
    assert text.count(b"\n") == 2 + len(owners)


@pytest.mark.parametrize("again", [False, True], ids=["all blocks dirty", "all blocks clean"])
def test_no_chunk_holds_more_than_half_a_millisecond_of_work(again: bool) -> None:  # noqa: FBT001 - a test's parameter
    document = Document([LATENCY])
    shape = histogram_shape(LATENCY.name, EDGES)
    for number in range(5000):
        document.put(LATENCY.name, label_text((("service", f"s{number}"),)), shape, (1, 1, 1, 1, 1, 0.1))
    if again:
        list(document.render(Format.TEXT))
    sizes = [(chunk.count(b"\n"), len(chunk)) for chunk in document.render(Format.TEXT)]
    assert max(bytes_ for _, bytes_ in sizes) <= 100_000
    if not again:
        assert max(lines for lines, _ in sizes) <= 1_510
    assert sum(lines for lines, _ in sizes) == 2 + 5000 * 6


async def test_a_stream_gives_way_after_every_chunk_and_unpacks_to_the_same_bytes() -> None:
    document = Document([STATE])
    shape = Shape(STATE.name)
    for number in range(10_000):
        document.put(STATE.name, label_text((("service", f"s{number}"),)), shape, (number,))
    plain = b"".join(document.render(Format.TEXT))
    chunks = len(list(document.render(Format.TEXT)))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        counter = group.create_task(count())
        packed = b"".join([chunk async for chunk in document.stream(Format.TEXT, gzip=True)])
        counter.cancel()
    assert gzip.decompress(packed) == plain
    assert turns >= chunks > 3


def test_a_family_that_was_not_declared_is_refused() -> None:
    with pytest.raises(KeyError):
        Document([]).put(STATE.name, AUTH, Shape(STATE.name), (1,))


class Counting:
    """A source of one line."""

    series = 1

    def lines(self, family: str, form: Format) -> Iterator[tuple[bytes, int]]:  # noqa: ARG002  # as a Source
        if family == STATE.name:
            yield b"gaia_target_state 7\n", 1


def test_series_kept_elsewhere_stand_in_their_family() -> None:
    document = Document([RUNS, STATE])
    document.put(STATE.name, AUTH, Shape(STATE.name), (1,))
    document.attach(Counting())
    assert samples(document, Format.OPEN_METRICS) == {
        (STATE.name, (("env", "production"), ("service", "auth"))): 1.0,
        (STATE.name, ()): 7.0,
    }
    assert document.series == 2
    document.forget(AUTH)
    assert samples(document, Format.TEXT) == {(STATE.name, ()): 7.0}
