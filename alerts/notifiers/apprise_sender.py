"""The process that apprise lives in: a line of JSON in is a message, a line out says what became of it.

Its 180 plug-ins are 25 MiB and half a second of work. A platform is well nearly always: the process is begun
when there is something to say, ends by itself when there is nothing more, and can be killed when it hangs.
Run as `python -m alerts.notifiers.apprise_sender`.
"""

from __future__ import annotations

import json
import os
import select
import sys
from typing import Any, Final

IDLE_S: Final = 60.0
SENT: Final = "sent"
KNOWN: Final = "known"
REFUSED: Final = "refused"
UNKNOWN_URL: Final = "unknown url"
_LONGEST_LINE: Final = 1 << 20


def main() -> None:
    """Serve until the input ends or nothing came for `IDLE_S`."""
    # What a plug-in prints must not be read as an answer.
    answers = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    buffer = b""
    while True:
        line, found, rest = buffer.partition(b"\n")
        if found:
            buffer = rest
            os.write(answers, _answer(json.loads(line)).encode() + b"\n")
            continue
        ready, _, _ = select.select([sys.stdin.fileno()], [], [], IDLE_S)
        chunk = os.read(sys.stdin.fileno(), 65536) if ready else b""
        if not chunk or len(buffer) > _LONGEST_LINE:
            return
        buffer += chunk


def _answer(asked: dict[str, Any]) -> str:
    # A new object each time: an instance waits seconds between two of its own messages.
    import apprise

    asset = apprise.AppriseAsset(app_id="Gaia", app_desc="Gaia", image_url_mask="", image_url_logo="")
    made = apprise.Apprise(asset=asset)
    if not made.add(asked["url"]):
        return UNKNOWN_URL
    message = asked["message"]
    if message is None:
        return KNOWN
    return SENT if made.notify(**message) else REFUSED


if __name__ == "__main__":
    main()
