"""A database's table in gaia.yaml."""

from __future__ import annotations

from typing import Literal

import msgspec

from checks.base_url import check_base
from checks.limits import Profile
from checks.postgres.place import Place, TlsMode, parse_url
from checks.postgres.thresholds import Thresholds
from checks.secret import Secret
from checks.units import Duration

Role = Literal["primary", "standby", "any"]


class PostgresOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to look at one PostgreSQL database.

    `expected_role`: a server in the other role is down for its callers.
    `slower_than`: log-in and first query together; over it the database is degraded.
    `profile`: whose thresholds hold; `auto` goes by the environment's name. `thresholds` win over it.
    `hold`: keep one session open between looks, with a sentinel on it. False where the server may sleep:
    a held session keeps it awake.
    `heartbeat`, `answer_within`: how often the held session is asked, and when silence counts.
    `standbys`: how many standbys the primary should have. None: as many as were seen last.
    `replicas`: look at each standby directly too, under the same user, at `replica_port` if that is another.
    `canary`: how often a write is tried; None in every environment but production.
    `flycheck_url`, `haproxy_url`: on Fly Postgres the machine's own checks (http://...internal:5500) and
    HAProxy's statistics (http://...internal:8404): they tell a proxy without a primary from a dead machine.
    There port 5432 of `url` is the proxy, which leads to the primary, and 5433 one machine's own PostgreSQL.
    `only_while_started`: Fly.io apps; while none of their machines is started the database is not asked, and
    after three looks that met no client but the agent it is left alone for ten minutes or until an app
    starts. By default, with `hold: false`, the apps that depend on it and may sleep.
    `starting_grace`: how long starting up or recovery may take before the database counts as down.
    """

    url: Secret
    expected_role: Role = "any"
    slower_than: Duration | None = None
    profile: Profile = "auto"
    thresholds: Thresholds = Thresholds()
    tls: TlsMode | None = None
    ca_file: str = ""
    hold: bool = True
    heartbeat: Duration = Duration(1.0)
    answer_within: Duration = Duration(2.0)
    standbys: int | None = None
    replicas: bool = True
    replica_port: int | None = None
    canary: Duration | None = None
    statements: bool = True
    flycheck_url: str = ""
    haproxy_url: str = ""
    only_while_started: tuple[str, ...] = ()
    nameserver: str = "fdaa::3"
    nameserver_port: int = 53
    starting_grace: Duration = Duration(60.0)

    def __post_init__(self) -> None:
        for key, url in (("flycheck_url", self.flycheck_url), ("haproxy_url", self.haproxy_url)):
            if url:
                check_base(url, key=key)

    def place(self) -> Place:
        """Raises ValueError when `url` is not a PostgreSQL URL."""
        return parse_url(self.url, tls=self.tls, ca_file=self.ca_file)
