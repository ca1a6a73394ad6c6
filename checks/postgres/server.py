"""One server as a check and its sentinel share it: the one session, and how to knock."""

from __future__ import annotations

from msgspec import Struct

from checks.postgres.knock import Knocker
from checks.postgres.session import Session


class Server(Struct, frozen=True, weakref=True, eq=False):
    """The budget is two connections at a time: this session, and a knock or look that comes and goes."""

    session: Session
    knocker: Knocker
