"""`gaia explain`: why an alert or a target is as it is, from what was seen and what came of it.

Where an alert names a request it is followed: to its log lines and its routes' numbers.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final
from urllib.parse import quote, urlencode

import msgspec

from agent.cli import OK, UNKNOWN
from agent.cli.api import Api, ApiError, NotThereError, add_arguments
from agent.cli.words import clean
from agent.trace_path import TracePath, path_lines
from agent.web.answers import ChecksAnswer, FailureAnswer, HistoryAnswer, TargetAnswer
from alerts.desk import Explanation
from alerts.words import clock, day, span
from checks.finding import Evidence, PhaseTime, State
from checks.target import TargetKey
from checks.units import Duration

_MOST_TARGETS: Final = 20
_PAGE: Final = 1000
_TRACE: Final = re.compile(r"[0-9a-fA-F]{32}")


class _Alerts(msgspec.Struct):
    alerts: tuple[Explanation, ...]


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One target as it is now, and its last failures, newest first."""

    target: TargetAnswer
    failures: tuple[FailureAnswer, ...]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of that name."""

    alerts: tuple[Explanation, ...]
    targets: tuple[Told, ...]
    traces: tuple[TracePath, ...] = ()


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `gaia explain`."""
    parser.add_argument(
        "name",
        metavar="NAME",
        help="a target (service, service/check, env/service/check; * and ? match), or an alert: "
        "a rule's name, a service, a fingerprint or an episode, or a trace id",
    )
    parser.add_argument("--all", action="store_true", help="also the alerts of that name that are well")
    parser.add_argument(
        "--failures", type=int, default=5, metavar="N", help="so many past failures (default %(default)s)"
    )
    add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """0 when there is something to explain, 3 when there is nothing of that name or no agent."""
    try:
        found = _found(Api(args.url), args.name, failures=max(0, min(args.failures, 200)), every=args.all)
    except ApiError as error:
        print(f"gaia explain: {error}", file=sys.stderr)
        return UNKNOWN
    if args.json:
        print(msgspec.json.encode(found).decode())
        return OK
    traces = {one.trace_id: one for one in found.traces}
    shown = [[*alert_lines(one), *path_lines(traces.pop(one.trace_id, None))] for one in found.alerts]
    parts = [
        *shown,
        *([f"trace {one.trace_id}", *path_lines(one)] for one in traces.values()),
        *(target_lines(one) for one in found.targets),
    ]
    print("\n\n".join("\n".join(clean(line) for line in part) for part in parts))
    return OK


def _found(api: Api, name: str, *, failures: int, every: bool) -> Answer:
    """What the agent knows under `name`. Raises ApiError when that is nothing."""
    if _TRACE.fullmatch(name):
        return Answer(alerts=(), targets=(), traces=(api.get(f"/api/v1/trace?id={name}", TracePath),))
    try:
        alerts = api.get(f"/api/v1/explain?alert={quote(name)}", _Alerts).alerts
    except NotThereError:
        alerts = ()
    watched = _targets(api)
    targets = [one for one in watched if _key(one).called(name)][:_MOST_TARGETS]
    if not alerts and not targets:
        services = ", ".join(dict.fromkeys(one.service for one in watched)) or "nothing"
        raise ApiError(
            f'there is no alert, target or episode called "{name}"; watched: {services}; '
            "`gaia alerts` lists alerts, `gaia check` targets"
        )
    told = tuple(one for one in alerts if every or one.trail or one.state != "ok")
    # What only has well alerts is still told of one, unless its targets tell more.
    told = told or (() if targets else alerts[:1])
    return Answer(
        alerts=told,
        targets=tuple(Told(target=one, failures=_failures(api, one, failures)) for one in targets),
        traces=tuple(_traces(api, told)),
    )


def _traces(api: Api, alerts: Sequence[Explanation]) -> Iterator[TracePath]:
    """The requests that alerts name, as far as the agent still remembers them."""
    for trace_id in dict.fromkeys(one.trace_id for one in alerts if one.trace_id):
        with suppress(NotThereError):
            yield api.get(f"/api/v1/trace?id={trace_id}", TracePath)


def _targets(api: Api) -> list[TargetAnswer]:
    found: list[TargetAnswer] = []
    after: int | None = 0
    while after is not None:
        page = api.get(f"/api/v1/checks?limit={_PAGE}&after={after}", ChecksAnswer)
        found += page.checks
        after = page.next
    return found


def _failures(api: Api, target: TargetAnswer, most: int) -> tuple[FailureAnswer, ...]:
    asked = {"env": target.env, "service": target.service, "check": target.check, "vantage": target.vantage}
    query = urlencode(asked | {"failures": str(most), "limit": "1"})
    return api.get(f"/api/v1/history?{query}", HistoryAnswer).failures


def _key(one: TargetAnswer) -> TargetKey:
    return TargetKey(env=one.env, service=one.service, check=one.check, vantage=one.vantage)


def alert_lines(one: Explanation) -> list[str]:
    """The story of one alert."""
    place = f"{one.alertname} of {one.env}/{one.service}"
    found = [f"{place}: {one.state}, severity {one.severity}, signal {one.signal}"]
    if one.evidence:
        found.append(f"  now       {one.evidence}")
    if one.example:
        found.append(f"  such as   {one.example}")
    found.append(f"  why       {one.why}")
    found.extend(
        f"  {day(entry.at_s)} {clock(entry.at_s)}  {entry.what:<10} {entry.text}" for entry in one.trail
    )
    for sent in one.deliveries:
        took = f" after {sent.ended_s - sent.queued_s:.2f} s" if sent.ended_s is not None else ""
        failed = f", {sent.attempts} attempts, last: {sent.error}" if sent.error else ""
        found.append(f"  {clock(sent.queued_s)}  {sent.kind} to {sent.channel}: {sent.state}{took}{failed}")
    return found


def target_lines(told: Told) -> Iterator[str]:
    """One target: its state, its latest look with the evidence if it is not well, its last failures."""
    one = told.target
    since = f" since {day(one.since_s)} {clock(one.since_s)}" if one.since_s else ""
    doubt = "; the latest look disagrees and is being confirmed" if one.in_doubt else ""
    yield f"{_key(one)}: {one.state} ({one.reason}){since}{doubt}"
    yield f"  says      {one.message}"
    if one.looked_s is not None:
        yield f"  looked    {clock(one.looked_s)}, each {Duration(one.interval_s)}, {one.looks} looks in all"
    well = one.state in (State.UP, State.ASLEEP)
    yield from _proof(one.phases, () if well else one.evidence)
    if not told.failures:
        yield "  no failure is kept of it"
        return
    yield "  last failures, newest first:"
    for failure in told.failures:
        yield f"  {_when(failure)}: {failure.finding.state} ({failure.finding.reason})"
        yield f"    {failure.finding.message}"
        yield from (f"  {line}" for line in _proof(failure.finding.phases, failure.finding.evidence))


def _when(failure: FailureAnswer) -> str:
    if failure.looks == 1:
        return f"{day(failure.at_s)} {clock(failure.at_s)}"
    lasted = span(failure.at_s - failure.first_s)
    begun = f"{day(failure.first_s)} {clock(failure.first_s)}"
    return f"{begun}, for {lasted}, {failure.looks} looks, the last at {clock(failure.at_s)}"


def _proof(phases: Sequence[PhaseTime], evidence: Sequence[Evidence]) -> Iterator[str]:
    if phases:
        parts = (f"{part.phase} {Duration(float(f'{part.duration_s:.3g}'))}" for part in phases)
        yield f"  phases    {' · '.join(parts)}"
    yield from (f"  {fact.name:<9} {fact.value}" for fact in evidence)
