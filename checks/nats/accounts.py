"""What each account uses of what it may: pure, from /accstatz and /jsz of every server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
from msgspec import Struct

from checks.finding import Measure
from checks.limits import chosen
from checks.nats.jetstream import Jsz
from checks.nats.thresholds import Thresholds
from checks.problem import Problem, over
from checks.reason import Reason

_MB: Final = 2**20
_MOST_SERIES: Final = 100
# What a server reports for "no limit", read as unsigned.
_UNLIMITED: Final = 2**63


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """One account on one server."""

    acc: str = ""
    conns: int = 0
    num_subscriptions: int = 0
    slow_consumers: int = 0


class Accstatz(msgspec.Struct, frozen=True, kw_only=True):
    """/accstatz of one server: accounts that somebody is connected to."""

    accounts: tuple[Account, ...] = msgspec.field(default=(), name="account_statz")


class _Use(Struct):
    connections: int = 0
    memory: int = 0
    storage: int = 0
    memory_limit: int = 0
    storage_limit: int = 0


class Accounts:
    """The use of every account, over all servers."""

    def __init__(self, statz: Iterable[Accstatz], jszs: Iterable[Jsz]) -> None:
        self._uses: dict[str, _Use] = {}
        for one in statz:
            for account in one.accounts:
                self._of(account.acc).connections += account.conns
        for jsz in jszs:
            for told in jsz.accounts:
                use = self._of(told.name)
                # Every server tells the whole cluster's use, as far as it has heard.
                use.memory, use.storage = max(use.memory, told.memory), max(use.storage, told.storage)
                use.memory_limit = _limit(told.reserved_memory)
                use.storage_limit = _limit(told.reserved_storage)

    def judge(self, limits: Thresholds, *, connections: int | None) -> Iterator[Problem]:
        """`connections`: how many one account may hold."""
        limit = chosen(limits.account_use)
        for name, use in self._uses.items():
            for used, most, reason, what in (
                (use.connections, connections or 0, Reason.NATS_ACCOUNT_LIMIT, "connections"),
                (
                    use.storage / _MB,
                    use.storage_limit / _MB,
                    Reason.JS_ACCOUNT_LIMIT,
                    "MB of JetStream storage",
                ),
                (
                    use.memory / _MB,
                    use.memory_limit / _MB,
                    Reason.JS_ACCOUNT_LIMIT,
                    "MB of JetStream memory",
                ),
            ):
                if most > 0:
                    yield from over(
                        limit,
                        used / most,
                        reason,
                        lambda at, used=used, most=most, what=what, name=name: (  # type: ignore[misc]  # bound per turn.
                            f"account {name} uses {used:.4g} of its {most:.4g} {what} ({used / most:.0%}, "
                            f"limit {at:.0%}): find what piles up there, or raise its limit"
                        ),
                    )

    def measures(self) -> Iterator[Measure]:
        """The numbers of at most a hundred accounts, the busiest first."""
        busiest = sorted(self._uses.items(), key=lambda one: (-one[1].connections, -one[1].storage, one[0]))
        for name, use in busiest[:_MOST_SERIES]:
            labels = (("account", name),)
            for measure, value in (
                ("connections", use.connections),
                ("storage_bytes", use.storage),
                ("memory_bytes", use.memory),
            ):
                yield Measure(name=f"gaia_nats_account_{measure}", value=float(value), labels=labels)

    def _of(self, name: str) -> _Use:
        return self._uses.setdefault(name, _Use())


def _limit(reserved: int) -> int:
    return reserved if reserved < _UNLIMITED else 0
