"""About what a machine costs while it is started: an estimate from the published price list, not a bill.

Source: fly.io/docs/about/pricing, started machines in Amsterdam, as of 2026. Other regions cost up to a
third more, and prices change; for knowing whether being awake for nobody is worth a thought it is enough.
"""

from __future__ import annotations

from typing import Final

from checks.machines.api import Guest

_HOURS_A_MONTH: Final = 730.0
_MB: Final = 1024.0
_GB_A_MONTH: Final = 5.0
# Dollars a month of one CPU with the least memory it comes with, in MB.
_CPUS: Final = {"shared": (1.94, 256), "performance": (31.0, 2048)}


def dollars_per_hour(guest: Guest) -> float:
    """0 for a size that is not known."""
    if guest.cpu_kind not in _CPUS:
        return 0.0
    cpu, included_mb = _CPUS[guest.cpu_kind]
    more_mb = max(guest.memory_mb - guest.cpus * included_mb, 0)
    return (guest.cpus * cpu + more_mb / _MB * _GB_A_MONTH) / _HOURS_A_MONTH
