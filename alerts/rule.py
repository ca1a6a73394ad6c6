"""A rule as written in gaia.yaml: which signal, which threshold, for whom, how urgent."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from checks.finding import State
from checks.target import Kind
from checks.units import Duration, Ratio, Size


class Severity(StrEnum):
    """`page` wakes somebody, `chat` is read at work, `log` is only recorded and shown."""

    PAGE = "page"
    CHAT = "chat"
    LOG = "log"


class RuleCommon(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every rule has beside its signal's own keys.

    `kinds`, `targets` and `checks` choose what the rule looks at (empty: everything the signal applies to).
    `receivers` names whom it calls (empty: every receiver that takes its severity).
    `min_good` fresh good looks are needed before an alert may resolve.
    """

    severity: Severity = Severity.PAGE
    for_: Duration = msgspec.field(default=Duration(0), name="for")
    keep_firing_for: Duration = Duration(0)
    min_good: int = 2
    kinds: tuple[Kind, ...] = ()
    targets: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    receivers: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    runbook: str | None = None
    summary: str | None = None
    first_step: str | None = None


class TargetStateRule(RuleCommon, frozen=True, kw_only=True, tag_field="signal", tag="target_state"):
    """The confirmed verdict of a check is one of `states` (and its reason one of `reasons`, if given).

    A reason ending in `.*` covers its group, such as `fly.*`. With `at_least` and `out_of` the last looks
    are counted instead of the verdict: k of n.
    """

    states: tuple[State, ...] = (State.DOWN,)
    reasons: tuple[str, ...] = ()
    at_least: int | None = None
    out_of: int | None = None


class SlowProbesRule(RuleCommon, frozen=True, kw_only=True, tag_field="signal", tag="slow_probes"):
    """`at_least` of the last `out_of` scheduled looks were slower than `slower_than`, or failed.

    Good again when at most `recover_at_most` of the last `recover_out_of` were.
    """

    slower_than: Duration = Duration(2)
    at_least: int = 3
    out_of: int = 5
    recover_at_most: int = 1
    recover_out_of: int = 10
    severity: Severity = Severity.CHAT


class SlowRequestRatioRule(
    RuleCommon, frozen=True, kw_only=True, tag_field="signal", tag="slow_request_ratio"
):
    """The share of real requests slower than `slower_than` is above `above`, over `over` and `and_over`.

    `slower_than` must be a bucket edge of the service's histogram. Above 5 % is "p95 > 2 s", exactly.
    """

    slower_than: Duration = Duration(2)
    above: Ratio = Ratio(0.05)
    recover_below: Ratio | None = None
    over: Duration = Duration(300)
    and_over: Duration | None = Duration(60)
    min_requests: int = 20
    min_bad: int = 3
    for_: Duration = msgspec.field(default=Duration(60), name="for")
    keep_firing_for: Duration = Duration(120)


class ErrorRatioRule(RuleCommon, frozen=True, kw_only=True, tag_field="signal", tag="error_ratio"):
    """The share of real requests that failed (5xx) is above `above`, over `over` and `and_over`.

    With fewer than `min_requests` requests or `min_bad` errors nothing is known; the window then widens to
    15 and 30 minutes until there are enough.
    """

    above: Ratio = Ratio(0.05)
    recover_below: Ratio | None = None
    over: Duration = Duration(300)
    and_over: Duration | None = Duration(60)
    min_requests: int = 20
    min_bad: int = 3
    for_: Duration = msgspec.field(default=Duration(60), name="for")
    keep_firing_for: Duration = Duration(120)


class MeasureRule(RuleCommon, frozen=True, kw_only=True, tag_field="signal", tag="measure"):
    """A number that a check measured is above `above` or below `below`.

    Thresholds are plain numbers or `90%`, `30s`, `1GB`. `where` selects label values of the measure; of
    several matching series the worst counts. With `increase_over` its growth in that time is compared
    instead, resets included.
    """

    measure: str
    where: dict[str, str] = {}
    above: float | str | None = None
    below: float | str | None = None
    recover_at: float | str | None = None
    increase_over: Duration | None = None

    def __post_init__(self) -> None:
        if (self.above is None) == (self.below is None):
            raise ValueError("a measure rule needs exactly one of `above` and `below`")
        for value in (self.above, self.below, self.recover_at):
            if value is not None:
                quantity(value)


class ConnectionFailuresRule(
    RuleCommon, frozen=True, kw_only=True, tag_field="signal", tag="connection_failures"
):
    """At least `at_least` looks within `over` could not connect, whether or not any one of them lasted."""

    at_least: int = 3
    over: Duration = Duration(300)
    severity: Severity = Severity.CHAT
    kinds: tuple[Kind, ...] = (Kind.DATABASE, Kind.BROKER)


class MachinesBelowMinRule(
    RuleCommon, frozen=True, kw_only=True, tag_field="signal", tag="machines_below_min"
):
    """Fewer machines of a service run than its environment's minimum."""

    for_: Duration = msgspec.field(default=Duration(60), name="for")


class ErrorLogRateRule(RuleCommon, frozen=True, kw_only=True, tag_field="signal", tag="error_log_rate"):
    """At least `at_least` ERROR log events of one service within `over`.

    A service that logs errors all the time has its own bar: `times_usual` the median of the hour before, if
    that is more. `fatal` counts only CRITICAL and FATAL. With `and_bad_traffic` the service's error ratio or
    share of slow requests must be bad too, by any rule in force over them.
    """

    at_least: int = 10
    over: Duration = Duration(300)
    times_usual: float = 3.0
    fatal: bool = False
    and_bad_traffic: bool = False
    severity: Severity = Severity.CHAT


class NewErrorLogRule(RuleCommon, frozen=True, kw_only=True, tag_field="signal", tag="new_error_log"):
    """An ERROR log event whose fingerprint was not seen for `quiet_for`: told with sample, count and trace.

    Further new ones of the same service follow in the same thread, at most five messages in ten minutes, then
    as a digest.
    """

    quiet_for: Duration = Duration(7 * 86400)
    keep_firing_for: Duration = Duration(600)
    severity: Severity = Severity.CHAT


class BackupAgeRule(RuleCommon, frozen=True, kw_only=True, tag_field="signal", tag="backup_age"):
    """The newest backup is older than `older_than`, missing, or its check says that it is no good."""

    older_than: Duration = Duration(26 * 3600)
    severity: Severity = Severity.CHAT


class NoDataRule(RuleCommon, frozen=True, kw_only=True, tag_field="signal", tag="no_data"):
    """Nothing fresh is known of a source: one alert per source, never one per rule.

    `stale_after` defaults to three intervals, at least one minute.
    """

    stale_after: Duration | None = None
    severity: Severity = Severity.CHAT


class ContradictionRule(RuleCommon, frozen=True, kw_only=True, tag_field="signal", tag="contradiction"):
    """What a target says of itself or of a dependency disagrees with what the agent sees."""

    for_: Duration = msgspec.field(default=Duration(60), name="for")
    severity: Severity = Severity.CHAT


class BurnWindow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Spends the error budget at `burn` times the allowed pace, over both windows."""

    burn: float
    long: Duration
    short: Duration


class BurnRateRule(RuleCommon, frozen=True, kw_only=True, tag_field="signal", tag="burn_rate"):
    """The service spends its error budget too fast (Google SRE workbook, multi-window multi-burn-rate).

    With `slower_than`, slow requests spend the budget; without, failed ones.
    """

    objective: Ratio = Ratio(0.999)
    slower_than: Duration | None = None
    windows: tuple[BurnWindow, ...] = (
        BurnWindow(burn=14.4, long=Duration(3600), short=Duration(300)),
        BurnWindow(burn=6, long=Duration(6 * 3600), short=Duration(1800)),
    )
    min_requests: int = 20


# A closed set: `signal` chooses the table. A new kind is one Struct here and one pure function in signals.
Rule = (
    TargetStateRule
    | SlowProbesRule
    | SlowRequestRatioRule
    | ErrorRatioRule
    | MeasureRule
    | ConnectionFailuresRule
    | MachinesBelowMinRule
    | ErrorLogRateRule
    | NewErrorLogRule
    | BackupAgeRule
    | NoDataRule
    | ContradictionRule
    | BurnRateRule
)
RatioRule = SlowRequestRatioRule | ErrorRatioRule


def signal(rule: Rule) -> str:
    """The rule's signal as written in the file."""
    return str(rule.__struct_config__.tag)


def quantity(value: float | str) -> float:
    """A threshold in base units: `0.9`, `90%`, `30s`, `1GB`. Raises ValueError with the remedy."""
    if not isinstance(value, str):
        return float(value)
    for unit in (Ratio, Duration, Size):
        try:
            return float(unit.parse(value))
        except ValueError:
            continue
    try:
        return float(value)
    except ValueError:
        raise ValueError(f'"{value}" is not a number: write 0.9, 90%, 30s or 1GB') from None


def in_force(rules: Mapping[str, Rule], policy: tuple[str, ...]) -> dict[str, Rule]:
    """The rules of one environment under its policy.

    An empty policy records and never calls: every rule is judged with severity `log`.
    """
    if not policy:
        return {name: msgspec.structs.replace(rule, severity=Severity.LOG) for name, rule in rules.items()}
    return {name: rules[name] for name in policy}


_COMPONENTS: Final = (Kind.SERVICE, Kind.DATABASE, Kind.BROKER)

DEFAULT_RULES: Final[Mapping[str, Rule]] = {
    # Production: response time, error rate, database connections, machines.
    "service_down": TargetStateRule(kinds=(Kind.SERVICE,), summary="does not answer"),
    "database_down": TargetStateRule(kinds=(Kind.DATABASE,), summary="cannot be used"),
    "broker_down": TargetStateRule(kinds=(Kind.BROKER,), summary="cannot be used"),
    "slow_responses": SlowRequestRatioRule(severity=Severity.CHAT),
    "very_slow_responses": SlowRequestRatioRule(above=Ratio(0.25)),
    "slow_probes": SlowProbesRule(kinds=(Kind.SERVICE,)),
    "high_error_rate": ErrorRatioRule(),
    "database_connection_failures": ConnectionFailuresRule(kinds=(Kind.DATABASE,)),
    "component_degraded": TargetStateRule(
        kinds=_COMPONENTS, states=(State.DEGRADED,), for_=Duration(300), severity=Severity.CHAT
    ),
    "too_few_machines": MachinesBelowMinRule(),
    "machine_unhealthy": TargetStateRule(
        kinds=(Kind.HOST, Kind.MACHINE), states=(State.DOWN, State.DEGRADED), for_=Duration(60)
    ),
    "error_logs": ErrorLogRateRule(),
    "error_logs_and_bad_traffic": ErrorLogRateRule(
        and_bad_traffic=True,
        severity=Severity.PAGE,
        keep_firing_for=Duration(120),
        summary="logs errors and fails",
    ),
    "fatal_logs": ErrorLogRateRule(
        at_least=1, fatal=True, severity=Severity.PAGE, summary="logs that it cannot go on"
    ),
    "new_error_log": NewErrorLogRule(),
    "backup_too_old": BackupAgeRule(),
    "witnesses_disagree": ContradictionRule(),
    "no_data": NoDataRule(),
    "telemetry_stuck": TargetStateRule(
        kinds=(Kind.AGENT,),
        states=(State.DOWN, State.DEGRADED),
        for_=Duration(60),
        severity=Severity.CHAT,
        summary="is not all passed on",
        first_step="gaia explain telemetry tells which destination; gaia dlq ls what it refused",
    ),
    # Staging: major failures only, never a page.
    "major_outage": TargetStateRule(kinds=_COMPONENTS, for_=Duration(180), severity=Severity.CHAT),
    "major_error_rate": ErrorRatioRule(above=Ratio(0.25), for_=Duration(300), severity=Severity.CHAT),
}

DEFAULT_POLICIES: Final[Mapping[str, tuple[str, ...]]] = {
    "none": (),
    "basic": ("major_outage", "major_error_rate", "new_error_log"),
    "comprehensive": tuple(name for name in DEFAULT_RULES if not name.startswith("major_")),
}
