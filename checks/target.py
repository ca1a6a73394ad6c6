"""What is watched, and from where: the identity every series, alert and row is keyed by."""

from __future__ import annotations

from enum import StrEnum
from fnmatch import fnmatchcase

from msgspec import Struct


class Kind(StrEnum):
    """What sort of component a target belongs to."""

    SERVICE = "service"
    DATABASE = "database"
    BROKER = "broker"
    HOST = "host"
    MACHINE = "machine"
    AGENT = "agent"


class TargetKey(Struct, frozen=True, kw_only=True, order=True, cache_hash=True):
    """Unique in one agent; the four labels `env, service, check, vantage` of every series.

    `service` is the service's, database's, broker's or host's name from gaia.yaml. Fly.io overwrites
    `app`, `region`, `host` and `instance` on custom metrics, so none of these may carry identity.
    """

    env: str
    service: str
    check: str
    vantage: str

    def __str__(self) -> str:
        return f"{self.env}/{self.service}/{self.check}@{self.vantage}"

    def called(self, pattern: str) -> bool:
        """Whether people mean this one by `pattern`; * and ? match.

        They write `service`, `service/check`, `env/service` or `env/service/check`, with `@vantage` where
        there are several.
        """
        plain = (
            self.service,
            f"{self.service}/{self.check}",
            f"{self.env}/{self.service}",
            f"{self.env}/{self.service}/{self.check}",
        )
        exact = (f"{name}@{self.vantage}" for name in plain) if "@" in pattern else plain
        return any(fnmatchcase(name, pattern) for name in exact)


class Target(Struct, frozen=True, kw_only=True):
    """One configured thing to look at.

    `address` is what people are shown: never userinfo, query or secret.
    """

    key: TargetKey
    kind: Kind
    address: str
