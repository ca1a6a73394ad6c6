"""The machine sizes Fly.io can give: fly-go `machine_types.go` and fly.io/docs, "Machine sizing"."""

from __future__ import annotations

from typing import Final

from agent.platform.model import Machines, MachineSize
from checks.units import Size

_MB: Final = 2**20
_CPUS: Final = {"shared": (1, 2, 4, 6, 8), "performance": (1, 2, 4, 6, 8, 10, 12, 14, 16)}
_MIN_MB_PER_CPU: Final = {"shared": 256, "performance": 2048}
_MAX_MB_PER_CPU: Final = {"shared": 2048, "performance": 8192}
_STEP_MB: Final = {"shared": 256, "performance": 1024}
_SUSPEND_MAX: Final = Size(2048 * _MB)


def refusal(size: MachineSize) -> str:
    """Why Fly.io refuses `size` and the nearest it gives, or "" when it does not."""
    kind = size.cpu_kind
    if size.cpus not in _CPUS[kind]:
        legal = ", ".join(str(count) for count in _CPUS[kind])
        return f"{size.cpus} {kind} CPUs cannot be had: legal are {legal}"
    low = Size(_MIN_MB_PER_CPU[kind] * size.cpus * _MB)
    high = Size(_MAX_MB_PER_CPU[kind] * size.cpus * _MB)
    cpus = f"{size.cpus} {kind} CPU{'s' if size.cpus > 1 else ''}"
    if size.memory < low:
        return f"{size.memory} is too little for {cpus}: the least is {low}"
    if size.memory > high:
        return f"{size.memory} is too much for {cpus}: the most is {high}"
    step = Size(_STEP_MB[kind] * _MB)
    if size.memory % step:
        nearest = Size(-(-size.memory // step) * step)
        return f"{size.memory} is no multiple of {step}, which {kind} CPUs need: the next is {nearest}"
    return ""


def suspend_refusal(size: MachineSize, machines: Machines) -> str:
    """Why a machine of this size cannot be suspended, or ""."""
    if machines.auto_stop == "suspend" and size.memory > _SUSPEND_MAX:
        return f"machines with {size.memory} cannot be suspended: the most is {_SUSPEND_MAX}; use stop"
    return ""
