"""The recorded cases: small series in which an alerting rule is easy to get wrong.

`python -m tests.alerts.corpus_cases` has promtool decide each of them and writes corpus.json.
"""

# ruff: noqa: E501  # one case, one line

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.alerts.parity import Case

CORPUS = Path(__file__).with_name("corpus.json")
_N = 120


def _counter(grow: Callable[[int], float], *, steps: int = _N, resets: tuple[int, ...] = ()) -> list[str]:
    value, out = 0.0, []
    for number in range(steps):
        value = grow(number) if number in resets else value + grow(number)
        out.append(f"{value:g}")
    return out


def _gaps(values: list[str], *ranges: tuple[int, int], mark: str = "_") -> list[str]:
    return [
        mark if any(low <= number < high for low, high in ranges) else value
        for number, value in enumerate(values)
    ]


def _during(low: int, high: int, inside: float, outside: float = 0.0) -> Callable[[int], float]:
    return lambda number: inside if low <= number < high else outside


def _ratio(
    id_: str, about: str, errors: list[str], total: list[str], *, for_s: float = 60, keep_s: float = 0,
    **expr: Any,
) -> Case:  # fmt: skip
    return Case(
        id=id_, about=about, interval_s=15, series={"e": " ".join(errors), "t": " ".join(total)},
        expr={"kind": "ratio", "over": 300, "above": 0.05} | expr, for_s=for_s, keep_s=keep_s, steps=_N,
    )  # fmt: skip


def _gauge(
    id_: str, about: str, values: list[str], expr: dict[str, Any], *, for_s: float = 0, keep_s: float = 0,
    interval_s: float = 10,
) -> Case:  # fmt: skip
    return Case(
        id=id_, about=about, interval_s=interval_s, series={"g": " ".join(values)}, expr=expr, for_s=for_s,
        keep_s=keep_s, steps=len(values) if len(values) > 60 else _N,
    )  # fmt: skip


def _steady(per_step: float = 100) -> list[str]:
    return _counter(lambda _: per_step)


def error_ratio_cases() -> list[Case]:
    t = _steady()
    both = {"and_over": 60}
    outage = _counter(_during(41, 81, 10))
    return [
        _ratio("er01", "10% for 10 min", outage, t, for_s=300),
        _ratio("er02", "exactly 5% is not more than 5%", _counter(_during(41, 81, 5)), t),
        _ratio("er03", "5.5% for 10 min", _counter(_during(41, 81, 5.5)), t),
        _ratio("er04", "all fail for 60 s", _counter(_during(41, 45, 100)), t, for_s=300),
        _ratio("er05", "all fail for 60 s, both windows", _counter(_during(41, 45, 100)), t, **both),
        _ratio("er06", "10% for 10 min, both windows", outage, t, **both),
        _ratio("er07", "10% for 10 min, for 0", outage, t, for_s=0, **both),
        _ratio("er08", "the total restarts in the middle", outage, _counter(lambda _: 100, resets=(60,))),
        _ratio("er09", "the errors restart in the middle", _counter(_during(41, 81, 10), resets=(60,)), t),
        _ratio("er10", "the error series is born with its first error",
               _gaps(_counter(_during(41, 81, 10)), (0, 41)), t),
        _ratio("er11", "both restart at once", _counter(_during(41, 81, 10), resets=(60,)),
               _counter(lambda _: 100, resets=(60,))),
        _ratio("er12", "one scrape is missed", _gaps(outage, (50, 51)), _gaps(t, (50, 51))),
        _ratio("er13", "six minutes without a scrape", _gaps(_counter(_during(15, 110, 10)), (61, 85)),
               _gaps(t, (61, 85))),
        _ratio("er14", "stale for six minutes", _gaps(_counter(_during(15, 110, 10)), (61, 85), mark="stale"),
               _gaps(t, (61, 85), mark="stale")),
        _ratio("er15", "every other scrape is missed", _gaps(outage, *[(n, n + 1) for n in range(1, _N, 2)]),
               _gaps(t, *[(n, n + 1) for n in range(1, _N, 2)])),
        _ratio("er16", "low traffic, one error in ten", _counter(_during(41, 42, 1)), _counter(lambda _: 0.5)),
        _ratio("er18", "a guard of 20 requests at low traffic", _counter(_during(41, 81, 0.5)),
               _counter(lambda _: 1), min_total=20),
        _ratio("er19", "traffic stops while it fires", _counter(_during(10, 41, 10)), _counter(_during(0, 41, 100))),
        _ratio("er20", "errors on and off every minute", _counter(lambda n: 20 if n // 4 % 2 else 0), t, **both),
        _ratio("er21", "a spike of one step", _counter(_during(41, 42, 100)), t, for_s=0),
        _ratio("er22", "on and off with keep_firing_for",
               _counter(lambda n: 30 if n // 8 % 2 else 0), t, for_s=0, keep_s=300, over=60),
        _ratio("er24", "recovers under a window of 5 min", _counter(_during(20, 50, 8)), t),
        _ratio("er25", "recovers under a window of 1 min", _counter(_during(20, 50, 8)), t, over=60),
        _ratio("er26", "grows slowly past the limit", _counter(lambda n: n / 12), t),
        _ratio("er28", "no traffic at all", _counter(lambda _: 0), _counter(lambda _: 0)),
        _ratio("er29", "a window of two intervals", outage, t, over=30),
        _ratio("er30", "more errors than requests after a reset", _counter(_during(41, 81, 10)),
               _counter(lambda n: 100 if n < 60 else 0, resets=(60,))),
        _ratio("er31", "just over the limit by one request", _counter(_during(41, 81, 5.1)), t, **both),
        _ratio("er32", "keep_firing_for outlives the end", outage, t, keep_s=120, **both),
        _ratio("er33", "bad again within keep_firing_for", _counter(
            lambda n: 20 if 20 <= n < 40 or 48 <= n < 70 else 0), t, keep_s=300, **both),
        _ratio("er34", "pending is interrupted", _counter(
            lambda n: 100 if 20 <= n < 22 or 40 <= n < 42 else 0), t, for_s=240, **both),
        _ratio("er35", "fires from the first sample", _counter(lambda _: 50), t),
    ]  # fmt: skip


def probe_cases() -> list[Case]:
    down = {"kind": "above", "above": 0.5}
    slow = {"kind": "above", "above": 2}
    three = {"kind": "count", "over": 40, "at_least": 3}

    def bits(text: str) -> list[str]:
        return list(text.ljust(_N, text[-1])[:_N])

    quiet = "0" * 20
    return [
        _gauge("st01", "for 60 s at 10 s needs seven bad looks", bits(quiet + "1" * 30 + "0"), down, for_s=60),
        _gauge("st02", "six bad looks are one too few", bits(quiet + "1" * 6 + "0"), down, for_s=60),
        _gauge("st03", "exactly seven bad looks", bits(quiet + "1" * 7 + "0"), down, for_s=60),
        _gauge("st04", "keep_firing_for does not protect pending", bits(quiet + "11011011" + "0"), down,
               for_s=30, keep_s=60),
        _gauge("st05", "for 0 fires on the first", bits(quiet + "10"), down),
        _gauge("st06", "keep_firing_for 60 s", bits(quiet + "1" * 10 + "0"), down, for_s=30, keep_s=60),
        _gauge("st07", "a relapse within keep_firing_for", bits(quiet + "11111" + "000" + "11" + "0"), down,
               for_s=30, keep_s=60),
        _gauge("st08", "a relapse just after keep_firing_for", bits(quiet + "11111" + "0000000" + "11111" + "0"),
               down, for_s=30, keep_s=60),
        _gauge("st09", "for as long as one interval", bits(quiet + "110"), down, for_s=10),
        _gauge("st10", "for not a multiple of the interval", bits(quiet + "1" * 10 + "0"), down, for_s=25),
        _gauge("pr01", "one failed look", bits(quiet + "10"), three),
        _gauge("pr02", "five of six slow never fires with for", bits("1011111" * 18), slow | {"above": 0.5},
               for_s=70),
        _gauge("pr03", "three of five", bits(quiet + "10101" + "0"), three),
        _gauge("pr04", "two of five", bits(quiet + "10100" + "0"), three),
        _gauge("pr05", "the mean hides one slow look in thirty", bits(quiet + "9" + "0"),
               {"kind": "mean", "over": 290, "above": 0.5}),
        _gauge("pr06", "three of five, again and again", bits((quiet + "111" + "0" * 7) * 4), three),
        _gauge("pr10", "no sample while down: the last one stays for five minutes",
               _gaps(bits(quiet + "1" * 60 + "0"), (23, 80)), down),
        _gauge("pr11", "stale while down", _gaps(bits(quiet + "1" * 60 + "0"), (23, 80), mark="stale"), down),
        _gauge("pr13", "one failed look and then none", _gaps(bits(quiet + "1" + "0"), (21, 40)), down, for_s=30),
        _gauge("pr14", "missing every other look", _gaps(bits(quiet + "1" * 40 + "0"),
               *[(n, n + 1) for n in range(21, 60, 2)]), down, for_s=60),
        _gauge("pr15", "changes in 30 min", bits("0101010101" + "0"),
               {"kind": "changes", "over": 600, "at_least": 4}),
        _gauge("pr16", "stale for one look", _gaps(bits(quiet + "1" * 20 + "0"), (27, 28), mark="stale"), down,
               for_s=30),
        _gauge("pr17", "stale for one look under keep_firing_for",
               _gaps(bits(quiet + "1" * 20 + "0"), (27, 28), mark="stale"), down, for_s=30, keep_s=30),
        _gauge("pr19", "comes and goes every look", bits("10" * 60), down, for_s=20),
        _gauge("pr20", "comes and goes every look, kept", bits("10" * 60), down, keep_s=20),
        _gauge("dm01", "the last sample at 300 s", _gaps(bits("1"), (31, _N)), down),
        _gauge("ma01", "all gone after 230 s", _gaps(bits("0" * 20 + "1"), (24, _N), mark="stale"), down, for_s=30),
        _gauge("gp01", "a gap of one lookback exactly", _gaps(bits("1"), (10, 39)), down, for_s=60),
        _gauge("gp02", "a gap one look longer than the lookback", _gaps(bits("1"), (10, 41)), down, for_s=60),
        _gauge("gp03", "the series starts late", _gaps(bits("1"), (0, 30)), down, for_s=60),
    ]  # fmt: skip


def number_cases() -> list[Case]:
    def inc(id_: str, about: str, values: list[str], **expr: Any) -> Case:
        return Case(
            id=id_, about=about, interval_s=15, series={"c": " ".join(values)},
            expr={"kind": "increase", "over": 300, "above": 3} | expr, for_s=0, steps=_N,
        )  # fmt: skip

    ramp = [f"{min(n, 100 - n if n > 50 else n) * 2}" for n in range(_N)]
    return [
        inc("lg01", "ten errors in five minutes", _counter(_during(40, 50, 1))),
        inc("lg02", "the counter is born at its first error", _gaps(["1"] * _N, (0, 40)), above=0),
        inc("lg03", "the counter was there before its first error", ["0"] * 40 + ["1"] * (_N - 40), above=0),
        inc("db03", "three failed connects", _counter(lambda n: 1 if n in (40, 44, 50) else 0), above=2),
        inc("db04", "a restart between two scrapes that hides growth",
            ["50"] * 40 + ["50"] * 20 + ["53"] * (_N - 60), above=2),
        inc("db05", "a reset to below", ["50"] * 40 + ["10"] * (_N - 40), above=5),
        _gauge("nb01", "disk grows past 90", ramp, {"kind": "above", "above": 90}, for_s=60),
        _gauge("nb02", "memory falls below 10", list(reversed(ramp)), {"kind": "below", "below": 10}, for_s=60),
        _gauge("nb03", "exactly at the threshold", ["90"] * _N, {"kind": "above", "above": 90}),
        _gauge("nb04", "negative numbers", ["-5"] * 30 + ["5"] * 30 + ["-5"] * 60, {"kind": "below", "below": 0},
               for_s=30),
    ]  # fmt: skip


def all_cases() -> list[Case]:
    return error_ratio_cases() + probe_cases() + number_cases()


def main() -> None:
    from tests.alerts.promtool import decided

    cases = all_cases()
    with tempfile.TemporaryDirectory() as folder:
        found = decided(cases, Path(folder))
    lines = [json.dumps({"id": case.id, "about": case.about, "timeline": found[case.id]}) for case in cases]
    CORPUS.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    sys.stdout.write(f"{len(cases)} cases recorded\n")


if __name__ == "__main__":
    main()
