"""The private DNS against the list of machines: whom it names that is not there, whom it does not name.

A record lives for five seconds, so a difference means something when a list that was read later than that
still shows it. Source: fly.io/docs/networking/private-networking.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final

from checks.apps import Listed
from checks.finding import State
from checks.problem import Problem
from checks.reason import Reason

_TTL_S: Final = 6.0


class Names:
    """Remembers since when each address has differed (monotonic seconds)."""

    def __init__(self) -> None:
        self._since_s: dict[str, float] = {}

    def judge(self, app: str, answers: frozenset[str], listed: Listed, *, now_s: float) -> Iterator[Problem]:
        """`answers`: the addresses that <app>.internal has now."""
        told = {_plain(address) for address in answers}
        machines = {_plain(one.private_ip): one for one in listed.machines if one.private_ip}
        wrong: dict[str, str] = {}
        for address in told:
            machine = machines.get(address)
            if machine is None:
                wrong[address] = f"names {address}, which is no machine of {app}"
            elif machine.state != "started":
                wrong[address] = f"names machine {machine.id} of {app}, which is {machine.state}"
        for address, machine in machines.items():
            if machine.state == "started" and address not in told:
                wrong[address] = f"does not name machine {machine.id} of {app}, which is started"
        self._since_s = {address: self._since_s.get(address, now_s) for address in wrong}
        for address, words in wrong.items():
            if listed.at_s - self._since_s[address] >= _TTL_S:
                lasted_s = now_s - self._since_s[address]
                sentence = (
                    f"the private DNS {words}, for {lasted_s:.0f} s now: requests go nowhere or to too few; "
                    "see the platform's status, and restart the machine"
                )
                yield Problem(state=State.DEGRADED, reason=Reason.NET_DNS_STALE, message=sentence)


def _plain(address: str) -> str:
    """One spelling for each address."""
    try:
        return str(ip_address(address))
    except ValueError:
        return address
