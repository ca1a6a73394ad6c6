"""One file, one mistake, one exact sentence: the first line of each file in bad/ says what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from agent.platform.load import load
from agent.platform.problem import PlatformError
from agent.platform.sections import SECTIONS
from alerts.rule import Rule
from checks.catalog import names
from tests.agent.platform.files import said

CORPUS = sorted(Path(__file__).parent.glob("bad/*.yaml"))
SIGNALS = ", ".join(str(rule.__struct_config__.tag) for rule in get_args(Rule))
ENVIRON = {"NOT_A_DURATION": "sw0rdfish"}


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_each_mistake_is_said_in_exactly_its_sentence(path: Path) -> None:
    expected = path.read_bytes().split(b"\n", 1)[0].removeprefix(b"# ").decode()
    expected = expected.replace("<kinds>", ", ".join(names())).replace("<signals>", SIGNALS)
    expected = expected.replace("<sections>", ", ".join(SECTIONS)).replace("<folder>", str(path.parent))
    try:
        problems = load(path, environ=ENVIRON).warnings
    except PlatformError as error:
        problems = error.problems
    assert [str(problem) for problem in problems] == [f"{path}:{expected}"]


def test_the_corpus_is_there() -> None:
    assert len(CORPUS) >= 110


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """\
platform: shop
environments:
  production: {check_interval: 10, alets: basic}
  staging: {log_level: DEBUGG, machines: {auto_stop: off, min: -1}}
services:
  web: {url: "https://shop.example", timout: 5s, depends_on: [man]}
  other:
    environments: {production: {interval: 2mins}}
    slower_than: "${SLOW}"
databases:
  main: {url: "postgresql://127.0.0.1/shop", heartbeat: 5, thresholds: {latency: {warm: 3s}}}
  none: {}
alerts:
  policies: {comprehensive: [one, two]}
  rules:
    one: {signal: eror_ratio}
    two: {signal: error_ratio, above: 5, overr: 3m}
  receivers:
    me: {webhook: {url: "${HOOK}", secret: 123}}
agent: {token: }
agnet: {}
"""
    assert [_short(sentence) for sentence in said(tmp_path, text)] == [
        "3:32 10 is not a duration such as 10s or 5m",
        '3:36 unknown key "alets"; did you mean "alerts"?',
        '4:24 "DEBUGG" is not one of DEBUG, ERROR, INFO, WARNING; did you mean "DEBUG"?',
        "4:64 -1 is not a whole number of at least 0",
        '6:38 unknown key "timout"; did you mean "timeout"?',
        '6:63 component "man" is not defined; defined: main, none, other; did you mean "main"?',
        '8:43 "2mins" is not a duration: write a number with ms, s, m, h, d or w, such as 10s or 5m',
        "11:57 5 is not a duration such as 10s or 5m",
        '11:83 unknown key "warm"; did you mean "warn"?',
        '12:9 "none" needs "url": a text, usually "${VARIABLE}"',
        '16:19 "eror_ratio" is no signal; did you mean "error_ratio"?',
        "17:39 5 is not a ratio such as 5%",
        '17:42 unknown key "overr"; did you mean "over"?',
        '19:44 123 is not a text, usually "${VARIABLE}"',
        '21:1 unknown key "agnet"; did you mean "agent"?',
    ]


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "gaia.yaml"
    with pytest.raises(PlatformError) as caught:
        load(path, environ={})
    assert str(caught.value) == f"{path}:1:1: error: cannot be read: No such file or directory"


def test_a_variables_value_is_never_shown(tmp_path: Path) -> None:
    text = "platform: p\nenvironments: {e: {check_interval: '${X}', machines: {min: '${X}', max: '${X}'}}}\n"
    told = "\n".join(said(tmp_path, text, environ={"X": "sw0rdfish"}))
    assert told.count("the value of ${X}") == 3
    assert "sw0rdfish" not in told


def test_a_password_in_a_wrong_address_is_never_shown(tmp_path: Path) -> None:
    text = "platform: p\nenvironments: {e: {}}\ndatabases: {d: {url: '${D}'}}\nservices: {s: {url: '${S}'}}\n"
    environ = {"D": "mysql://me:sw0rdfish@h/d", "S": "http://me:sw0rdfish@h/"}
    assert [_short(sentence).split(" ", 1)[1] for sentence in said(tmp_path, text, environ=environ)] == [
        "the value of ${D} is no address of this kind",
        "the value of ${S} is no URL to probe",
    ]


def _short(sentence: str) -> str:
    """`3:32: error: text` as `3:32 text`."""
    place, _, text = sentence.split(": ", 2)
    return f"{place} {text}"
