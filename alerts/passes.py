"""Passes: whoever was called may take or silence that one episode, until the pass expires. Nothing is stored.

A pass travels only in the links of a message that was sent to a receiver; it is signed with a key derived
from the agent's token, so a new token ends every pass. Opening a link does nothing: its page asks first.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

import msgspec

from alerts.notice import Notice, NoticeKind
from alerts.told import STORM
from checks.secret import Secret

_LASTS_S: Final = 86400
_PURPOSE: Final = b"gaia: take or silence one episode"


def issue(token: Secret, episode: str, now_s: float) -> str:
    """A pass for one episode, good for a day."""
    until_s = int(now_s) + _LASTS_S
    return f"{until_s:x}.{_signature(token, episode, until_s)}"


def admits(token: Secret, episode: str, given: str, now_s: float) -> bool:
    """Whether `given` is a pass for this episode that has not expired."""
    until, _, signature = given.partition(".")
    try:
        until_s = int(until, 16)
    except ValueError:
        return False
    right = hmac.compare_digest(signature.encode(), _signature(token, episode, until_s).encode())
    return right and now_s < until_s <= now_s + 2 * _LASTS_S


def dressed(notice: Notice, token: Secret | None, now_s: float) -> Notice:
    """The notice with links to take it and to silence it, where there is something to take."""
    page = dict(notice.links).get("Open")
    over = notice.kind in (NoticeKind.RESOLVE, NoticeKind.TEST, NoticeKind.REPORT)
    if not token or page is None or over or notice.merged:
        return notice
    given = issue(token, notice.episode, now_s)
    links = (("Acknowledge", f"{page}?pass={given}#take"), *notice.links)
    # Many at once have no one name to be silenced by.
    if not notice.episode.startswith(STORM):
        links = (*links, ("Silence", f"{page}?pass={given}#silence"))
    return msgspec.structs.replace(notice, links=links)


def _signature(token: Secret, episode: str, until_s: int) -> str:
    key = hmac.new(token.reveal().encode(), _PURPOSE, hashlib.sha256).digest()
    return hmac.new(key, f"{episode}|{until_s}".encode(), hashlib.sha256).hexdigest()[:32]
