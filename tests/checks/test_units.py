from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks.units import Duration, Ratio, Size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("10s", 10.0), ("1.5s", 1.5), ("5m", 300.0), ("1h30m", 5400.0), ("30d", 2592000.0)],
)
def test_durations_are_seconds(text: str, seconds: float) -> None:
    assert Duration.parse(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "s", "2mins", "-5s", "5 m", "1e3s", "10s ago"])
def test_what_is_no_duration_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(ValueError, match="write a number with ms, s, m, h, d or w"):
        Duration.parse(text)


@given(st.integers(min_value=0, max_value=10**9))
def test_a_duration_reads_back_as_it_was_written(milliseconds: int) -> None:
    written = Duration(milliseconds / 1000)
    assert Duration.parse(str(written)) == pytest.approx(float(written), rel=1e-5)


@pytest.mark.parametrize(
    ("text", "size"), [("512MB", 512 * 2**20), ("2GB", 2**31), ("100B", 100), ("1kB", 1000)]
)
def test_sizes_are_bytes(text: str, size: int) -> None:
    assert Size.parse(text) == size


@pytest.mark.parametrize(("text", "ratio"), [("5%", 0.05), ("0.1%", 0.001), ("100%", 1.0), ("12 %", 0.12)])
def test_ratios_are_shares(text: str, ratio: float) -> None:
    assert Ratio.parse(text) == pytest.approx(ratio)
    assert Ratio.parse(str(Ratio.parse(text))) == pytest.approx(ratio)


@pytest.mark.parametrize("text", ["5", "101%", "-1%", "%", "5 percent"])
def test_what_is_no_ratio_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write a percentage"):
        Ratio.parse(text)
