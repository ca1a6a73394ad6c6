"""Rules that are well written and still do not do what they seem to, each with its place and the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping as MappingType

from msgspec import Struct

from agent.platform.place import Places
from agent.platform.problem import Problems, Severity
from agent.platform.scope import Scope
from alerts.rule import (
    BackupAgeRule,
    BurnRateRule,
    ConnectionFailuresRule,
    ErrorLogRateRule,
    ErrorRatioRule,
    NewErrorLogRule,
    NoDataRule,
    Rule,
    SlowProbesRule,
    SlowRequestRatioRule,
)
from checks.target import Kind
from checks.units import Duration

# A failed look is repeated up to twice at once; each repetition counts as a look.
_LOOKS_A_FAILURE = 3


class Trap(Struct, frozen=True):
    """What is wrong with one key of a rule."""

    field: str
    message: str


def check_traps(scopes: MappingType[str, Scope], places: Places, problems: Problems) -> None:
    """Note what every written rule of a policy will never do, or do wrongly."""
    for scope in scopes.values():
        for name in scope.alerts.policies.get(scope.environment.alerts, ()):
            rule = scope.rules.get(name)
            if rule is None or not places.written("alerts", "rules", name):
                continue
            for trap in traps(rule, scope):
                places.own(
                    problems,
                    scope.environment_name,
                    ("alerts", "rules", name, trap.field),
                    trap.message,
                    severity=Severity.WARNING,
                )


def traps(rule: Rule, scope: Scope) -> Iterator[Trap]:
    """The traps of one rule in one environment."""
    yield from _nothing_to_see(rule, scope)
    match rule:
        case SlowRequestRatioRule() | ErrorRatioRule():
            yield from _ratio(rule)
        case BurnRateRule():
            yield from _burn(rule)
        case SlowProbesRule():
            yield from _slow_probes(rule, scope)
        case ConnectionFailuresRule():
            yield from _connections(rule, scope)
        case BackupAgeRule():
            yield from _backups(rule, scope)
        case NoDataRule():
            yield from _no_data(rule, scope)
        case _:
            return


def _nothing_to_see(rule: Rule, scope: Scope) -> Iterator[Trap]:
    kinds = rule.kinds or tuple(Kind)
    if isinstance(
        rule, SlowRequestRatioRule | ErrorRatioRule | BurnRateRule | ErrorLogRateRule | NewErrorLogRule
    ):
        kinds = (Kind.SERVICE,)
    here = {
        Kind.SERVICE: scope.services,
        Kind.DATABASE: scope.databases,
        Kind.BROKER: scope.brokers,
        Kind.HOST: scope.hosts,
    }
    # What machines there are is only known to Fly.io, the agent looks at itself, a wildcard means anything.
    if {Kind.MACHINE, Kind.AGENT} & set(kinds) or any("*" in target for target in rule.targets):
        return
    seen = {name for kind in kinds for name in here.get(kind, ())}
    if rule.targets and not seen & set(rule.targets):
        chosen = " or ".join(kind.value for kind in kinds)
        yield Trap("targets", f"none of its targets is a {chosen}: this rule can never fire")
    elif not seen:
        chosen = " or ".join(kind.value for kind in kinds)
        yield Trap("kinds", f"there is no {chosen} in this file: this rule can never fire")


def _ratio(rule: SlowRequestRatioRule | ErrorRatioRule) -> Iterator[Trap]:
    if rule.above >= 1:
        yield Trap("above", "no share is above 100%: this rule can never fire")
    if rule.recover_below is not None and rule.recover_below > rule.above:
        yield Trap(
            "recover_below",
            f"recover_below {rule.recover_below} is above {rule.above}: what is bad would resolve",
        )
    if rule.and_over is not None and rule.and_over >= rule.over:
        yield Trap(
            "and_over",
            f"and_over {rule.and_over} is no shorter than over {rule.over}: it makes nothing resolve sooner",
        )
    if rule.and_over is None and rule.for_ >= rule.over:
        yield Trap(
            "for",
            f"for {rule.for_} is no shorter than the window {rule.over}: a blip calls when it is long over; "
            "write and_over: 1m and a shorter for",
        )


def _burn(rule: BurnRateRule) -> Iterator[Trap]:
    for window in rule.windows:
        needed = window.burn * (1 - rule.objective)
        if needed >= 1:
            yield Trap(
                "windows",
                f"burn {window.burn:g} of objective {rule.objective} means more than {needed * 100:.0f}% bad "
                "requests: this window can never fire",
            )
        if window.short >= window.long:
            yield Trap("windows", f"short {window.short} is no shorter than long {window.long}")


def _slow_probes(rule: SlowProbesRule, scope: Scope) -> Iterator[Trap]:
    timeouts = [service.timeout for service in scope.services.values()]
    if timeouts and rule.slower_than >= max(timeouts):
        yield Trap(
            "slower_than",
            f"probes give up after {max(timeouts)}: none is ever slower than {rule.slower_than}, only failed",
        )
    if rule.recover_at_most * rule.out_of >= rule.at_least * rule.recover_out_of:
        yield Trap(
            "recover_at_most",
            f"{rule.recover_at_most} of {rule.recover_out_of} is no better than "
            f"{rule.at_least} of {rule.out_of}: it would come and go",
        )


def _connections(rule: ConnectionFailuresRule, scope: Scope) -> Iterator[Trap]:
    interval = scope.environment.check_interval
    most = _LOOKS_A_FAILURE * (int(rule.over / interval) + 1)
    if rule.at_least > most:
        yield Trap(
            "at_least",
            f"at most {most} looks fall into {rule.over} at an interval of {interval}: "
            f"{rule.at_least} can never fail",
        )


def _backups(rule: BackupAgeRule, scope: Scope) -> Iterator[Trap]:
    for database in scope.databases.values():
        every = database.backups.every if database.backups is not None else None
        if every is not None and rule.older_than <= every:
            yield Trap(
                "older_than",
                f"{database.name} is backed up every {every}: its newest backup is older than "
                f"{rule.older_than} while all is well; write more than {every}",
            )


def _no_data(rule: NoDataRule, scope: Scope) -> Iterator[Trap]:
    least = Duration(2 * scope.environment.check_interval)
    if rule.stale_after is not None and rule.stale_after < least:
        yield Trap(
            "stale_after",
            f"stale_after {rule.stale_after} is shorter than two intervals of {scope.environment_name}: "
            f"one late look would be no data; write at least {least}",
        )
