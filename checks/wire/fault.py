"""What goes wrong between us and a target, with its reason, on its way to becoming a Finding."""

from __future__ import annotations

import errno

from checks.finding import Finding, Phase, State
from checks.reason import Reason
from checks.target import Target


class Fault(Exception):  # noqa: N818 - it is the target's fault, not an error of ours
    """The exchange ended badly. `message` is a sentence's end: what the address did.

    `hard` marks evidence that decides after one confirmation.
    """

    def __init__(self, reason: Reason, message: str, *, hard: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.hard = hard


class DeadlinePassed(Exception):  # noqa: N818 - named by its meaning, and no OSError like TimeoutError
    """The look's deadline passed; the journey knows in which phase."""


class NoSocketLeft(Exception):  # noqa: N818 - named by its meaning: the agent is at its limits
    """The agent itself ran out of descriptors, ports or memory: nothing is known about the target."""


def no_socket_left(target: Target, error: NoSocketLeft) -> Finding:
    """What is known of `target` then: nothing."""
    return Finding(
        state=State.UNKNOWN,
        reason=Reason.AGENT,
        message=f"the agent has no socket left for {target.address} ({error}): raise its limits",
    )


_ENDS = {
    Phase.RESOLVE: "while its name was looked up",
    Phase.CONNECT: "while connecting",
    Phase.TLS: "in the TLS handshake",
    Phase.PROCESSING: "before the first byte of an answer",
    Phase.TRANSFER: "in the middle of the answer",
}


def during(phase: Phase) -> str:
    """Where in the exchange something happened, as a person says it."""
    return _ENDS[phase]


def fault_of(error: OSError, phase: Phase) -> Fault:
    """The fault a socket error in `phase` amounts to. Raises NoSocketLeft for our own limits."""
    match error:
        case ConnectionRefusedError():
            return Fault(Reason.CONNECTION_REFUSED, "refuses connections: nobody listens there", hard=True)
        case ConnectionResetError() | BrokenPipeError() | ConnectionAbortedError():
            return Fault(Reason.CONNECTION_RESET, f"reset the connection {during(phase)}", hard=True)
        case OSError(errno=errno.EMFILE | errno.ENFILE | errno.ENOBUFS | errno.ENOMEM | errno.EADDRNOTAVAIL):
            raise NoSocketLeft(error.strerror) from error
        case TimeoutError():
            return Fault(Reason.TIMEOUT, f"did not answer {during(phase)}")
        case OSError(errno=errno.EHOSTUNREACH | errno.ENETUNREACH | errno.EHOSTDOWN):
            return Fault(Reason.UNREACHABLE, "cannot be reached: no route")
        case _:
            return Fault(Reason.UNREACHABLE, f"cannot be reached ({error.strerror or error})")
