"""Performance data as Nagios plug-ins write it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.perfdata import Performance, parse_perfdata


def one(label: str, value: float, unit: str) -> Performance:
    return Performance(label=label, value=value, unit=unit)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("time=0.02s;;;0.000000 size=512B;;;0", (one("time", 0.02, "seconds"), one("size", 512.0, "bytes"))),
        ("'free space'=10%;20;10", (one("free space", 0.1, "ratio"),)),
        ("it''s=1", (one("it's", 1.0, "none"),)),
        ("'it''s'=1", (one("it's", 1.0, "none"),)),
        (
            "rta=12,5ms load1=-1.5 c=7c",
            (one("rta", 0.0125, "seconds"), one("load1", -1.5, "none"), one("c", 7, "total")),
        ),
        ("mem=2KB x=1e3", (one("mem", 2048.0, "bytes"), one("x", 1000.0, "none"))),
        ("a=U b=nan junk c=1furlong d=2", (one("d", 2.0, "none"),)),
        ("", ()),
    ],
)
def test_numbers_come_in_base_units(text: str, wanted: tuple[Performance, ...]) -> None:
    assert parse_perfdata(text) == wanted


@settings(deadline=None)  # a busy machine is no finding
@given(st.text(max_size=200) | st.text(alphabet="'=;:.,0123456789 %smuBKGTe-+", max_size=200))
def test_any_text_gives_finite_bounded_numbers(text: str) -> None:
    found = parse_perfdata(text)
    assert len(found) <= 50
    assert all(math.isfinite(item.value) and len(item.label) <= 64 for item in found)
