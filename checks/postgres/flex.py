"""What a Fly Postgres machine says of itself without SQL: its own checks on :5500, HAProxy's table on :8404.

5432 there is HAProxy, which leads to the primary; 5433 is the machine's own PostgreSQL. So a database that is
gone behind 5432 may be three things: the proxy, the primary, or the machine; these two pages tell them apart.
Pure parsing and judgement here; `FlexSource` reads. Source: fly-apps/postgres-flex, HAProxy's CSV statistics.
"""

from __future__ import annotations

import asyncio
import csv
import re
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from checks.catalog import Resolver
from checks.finding import Evidence, Measure, State
from checks.problem import Problem
from checks.reason import Reason
from checks.small_get import SmallGet

_LINE: Final = re.compile(r"\[(?P<mark>.)\] (?P<name>[\w-]+): (?P<words>.*?)(?: \([^()]*\))?$")
_FAILED: Final = "✗"
_PERCENT: Final = re.compile(r"(\d+(?:\.\d+)?)%")
_DIRECT_PORT: Final = 5433
_ROLES: Final = ("primary", "replica", "zombie")


class FlexCheck(Struct, frozen=True, kw_only=True):
    """One line of a machine's own checks."""

    name: str
    failed: bool
    words: str


class Backend(Struct, frozen=True, kw_only=True):
    """One server HAProxy may send to: UP, DOWN, MAINT or no check."""

    proxy: str
    name: str
    status: str

    @property
    def is_up(self) -> bool:
        return self.status.startswith(("UP", "no check"))


class Flex(Struct, frozen=True, kw_only=True):
    """One reading. None: that page could not be read; `trouble` says why."""

    role: str | None = None
    checks: tuple[FlexCheck, ...] = ()
    backends: tuple[Backend, ...] | None = None
    trouble: tuple[str, ...] = ()


class FlexSource:
    """Reads both pages of one machine; whichever is configured."""

    def __init__(self, checks_url: str, proxy_url: str, resolver: Resolver) -> None:
        """Raises ValueError when one of them is no URL. An empty one is not asked."""
        self._checks = SmallGet(checks_url, resolver) if checks_url else None
        self._proxy = SmallGet(proxy_url, resolver) if proxy_url else None

    async def read(self, *, within_s: float) -> Flex:
        """Never raises OSError or TimeoutError: what cannot be read is told."""
        trouble: list[str] = []
        texts = await asyncio.gather(
            _text(self._checks, "/flycheck/role", within_s, trouble),
            _text(self._checks, "/flycheck/pg", within_s, trouble),
            _text(self._checks, "/flycheck/vm", within_s, trouble),
            _text(self._proxy, "/;csv", within_s, trouble),
        )
        role, *tables, proxy = texts
        return Flex(
            role=_role(role),
            checks=tuple(check for text in tables for check in parse_checks(text or "")),
            backends=None if proxy is None else parse_backends(proxy),
            trouble=tuple(dict.fromkeys(trouble)),
        )


async def _text(get: SmallGet | None, path: str, within_s: float, trouble: list[str]) -> str | None:
    if get is None:
        return None
    try:
        async with asyncio.timeout(within_s):
            answer = await get.get(path)
    except TimeoutError:
        trouble.append(f"{get.shown} did not answer in time")
    except (OSError, ValueError) as error:
        trouble.append(f"{get.shown} cannot be read ({error})")
    else:
        # A check that fails answers 500, with the same text.
        return answer.body.decode(errors="replace")
    return None


def parse_checks(text: str) -> tuple[FlexCheck, ...]:
    """Lines such as `[✓] disk-capacity: 4.2% - readonly mode will be enabled at 90.0% (1.2µs)`."""
    found = []
    for line in text.splitlines():
        match = _LINE.match(line.strip())
        if match:
            found.append(
                FlexCheck(name=match["name"], failed=match["mark"] == _FAILED, words=match["words"][:200])
            )
    return tuple(found)


def parse_backends(text: str) -> tuple[Backend, ...]:
    """The servers of HAProxy's CSV; its frontends and sums are left out."""
    rows = csv.DictReader(text.lstrip("# ").splitlines())
    return tuple(
        Backend(proxy=row["pxname"], name=row["svname"], status=row.get("status") or "")
        for row in rows
        if row.get("pxname") and row.get("svname") not in (None, "FRONTEND", "BACKEND")
    )


def judge(flex: Flex, shown: str, *, role: str, port: int) -> Iterator[Problem]:
    """What a readable machine says is wrong with it. `role`: the expected one; `port`: the one we use."""
    if flex.role == "zombie":
        words = (
            f"the machine behind {shown} is a zombie: it was primary, found another one, and stands aside; "
            "see `fly machine status`, then remove or re-join it"
        )
        yield Problem(state=State.DOWN, reason=Reason.PG_WRONG_ROLE, message=words, urgent=True)
    elif flex.role == "replica" and role == "primary":
        words = (
            f"the machine behind {shown} says it is a replica and should be the primary: "
            "was there a failover?"
        )
        yield Problem(state=State.DOWN, reason=Reason.PG_WRONG_ROLE, message=words, urgent=True)
    for check in flex.checks:
        if check.failed:
            reason = {
                "disk-capacity": Reason.PG_READ_ONLY,
                "checkDisk": Reason.HOST_DISK,
                "checkLoad": Reason.HOST_LOAD,
                "connections": Reason.PG_CONNECTIONS_HIGH,
            }.get(check.name, Reason.HOST_PRESSURE)
            words = f"the machine behind {shown} fails its own check {check.name}: {check.words}"
            state = State.DOWN if reason is Reason.PG_READ_ONLY else State.DEGRADED
            yield Problem(state=state, reason=reason, message=words, urgent=True)
    yield from _proxy(flex, shown, port)


def no_primary(flex: Flex) -> str:
    """Why there is no database behind the proxy, as far as HAProxy knows; empty when it sees one."""
    if flex.backends is None:
        return ""
    if not flex.backends:
        return "HAProxy has no server at all behind it"
    up = [one for one in flex.backends if one.is_up]
    if up:
        return ""
    listed = ", ".join(f"{one.name} {one.status}" for one in flex.backends[:5])
    return f"HAProxy sees no primary behind it ({listed})"


def measures(flex: Flex) -> Iterator[Measure]:
    """The numbers of one reading."""
    if flex.role in _ROLES:
        for role in _ROLES:
            value = float(flex.role == role)
            yield Measure(name="gaia_postgres_flex_role", value=value, labels=(("role", role),))
    for check in flex.checks:
        yield Measure(
            name="gaia_postgres_flex_check", value=float(not check.failed), labels=(("name", check.name),)
        )
        percent = _PERCENT.match(check.words)
        if check.name == "disk-capacity" and percent:
            yield Measure(name="gaia_postgres_volume_used_ratio", value=float(percent[1]) / 100)
    if flex.backends is not None:
        up = sum(one.is_up for one in flex.backends)
        yield Measure(name="gaia_postgres_proxy_backends_up", value=float(up))


def evidence(flex: Flex) -> Iterator[Evidence]:
    """What could not be read: a page of the platform's, so less is known and nothing is wrong."""
    for why in flex.trouble:
        yield Evidence(name="unknown: flex", value=why)


def _proxy(flex: Flex, shown: str, port: int) -> Iterator[Problem]:
    why = no_primary(flex)
    if not why:
        return
    # Whoever goes past the proxy is not hit by it; those who use 5432 are.
    words = f"{shown} answers and {why}: what connects through the proxy on 5432 finds no primary"
    state = State.DEGRADED if port == _DIRECT_PORT else State.DOWN
    yield Problem(state=state, reason=Reason.PG_NO_BACKEND, message=words, urgent=True)


def _role(text: str | None) -> str | None:
    word = (text or "").strip()
    return word if word in _ROLES else None
