"""Services, databases, brokers, hosts: their own keys, those of their kind of check, further checks."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping as MappingType
from typing import Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from agent.platform.convert import Reader
from agent.platform.implied import with_backups, with_machines, with_writes
from agent.platform.model import (
    DEFAULT_KINDS,
    Agent,
    Broker,
    CheckSpec,
    Database,
    Environment,
    Host,
    Security,
    Service,
    Vantage,
)
from agent.platform.problem import Problems, nearest
from agent.platform.tree import Mapping, Node, Scalar, Sequence, is_null, only, without
from checks.apps import proxied_app
from checks.catalog import kind as check_kind
from checks.catalog import names as check_names
from checks.http.options import HttpOptions, check_url
from checks.units import Duration
from checks.verdict import ConfirmPolicy
from checks.wire.tls_options import TlsOptions

C = TypeVar("C", Database, Broker, Host)
_MAX_TIMEOUT_S: Final = 5.0
_TIMEOUT_SHARE: Final = 0.8
_COMMON: Final = ("kind", "interval", "timeout")


# Stands in until a kind's own options are read.
_NO_OPTIONS: Final[MappingType[str, object]] = {}


class ComponentReader:
    """Reads what is watched, for one environment."""

    def __init__(
        self,
        reader: Reader,
        environment: Environment,
        problems: Problems,
        *,
        security: Security,
        agent: Agent,
    ) -> None:
        self._reader = reader
        self._agent = agent
        self._tls = TlsOptions(min_version=security.tls_min_version)
        self._environment = environment
        self._problems = problems

    def service(self, name: str, node: Node) -> Service | None:
        """One service with its ways to be probed."""
        key = f"services.{name}"
        if not isinstance(node, Mapping):
            self._not_a_table(node, key)
            return None
        timing = self._timing(node)
        service = self._reader.table(
            without(node, "checks", "http", "confirm"),
            Service,
            key=key,
            fixed={
                "name": name,
                "vantages": (),
                "checks": self._checks(node, key, timing),
                "confirm": self._confirm(node, key),
            },
            defaults={**timing, "machines": self._environment.machines},
            also=("checks", "http", "confirm", "environments"),
        )
        http = node.get("http") or Mapping(node.at, {})
        if not self._reachable(node, key):
            return None
        if service is None:
            # Only to hear of its mistakes.
            self._http(http, key, url="http://localhost/", defaults={})
            return None
        vantages = []
        defaults = {"timeout": service.timeout, "slower_than": service.slower_than, "tls": self._tls}
        for way, url in _ways(service):
            address = url.rstrip("/") + service.health
            options = self._http(http, key, url=address, defaults=defaults)
            if options is not None:
                vantages.append(Vantage(name=way, url=url, options=options))
        app = service.app or fly_app(service.internal_url) or fly_app(service.url)
        service = msgspec.structs.replace(service, vantages=tuple(vantages), app=app)
        return with_machines(service, self._agent)

    def database(self, name: str, node: Node) -> Database | None:
        """One database and its backups."""
        database = self.component(name, node, Database)
        return None if database is None else with_backups(database)

    def host(self, name: str, node: Node) -> Host | None:
        """The machine, and where it is tried whether its disk can be written."""
        host = self.component(name, node, Host)
        return None if host is None else with_writes(host, self._agent)

    def component(self, name: str, node: Node, wanted: type[C]) -> C | None:
        """A database, broker or host; the keys of its kind of check stand in the same table."""
        key = f"{wanted.__name__.lower()}s.{name}"
        if is_null(node) and wanted is Host:
            node = Mapping(node.at, {})
        if not isinstance(node, Mapping):
            self._not_a_table(node, key)
            return None
        timing = self._timing(node)
        checks = self._checks(node, key, timing)
        confirm = self._confirm(node, key)
        own = wanted.__struct_encode_fields__
        kind = node.get("kind")
        kind_name = kind.text if isinstance(kind, Scalar) else DEFAULT_KINDS[wanted.__name__]
        options_type = self._options_type(kind_name, kind or node, f"{key}.kind")
        if options_type is None:
            return None
        theirs = options_type.__struct_encode_fields__
        foreign: list[str] = [known for known in theirs if known not in own]
        table = self._reader.table(
            without(node, "checks", "confirm", *foreign),
            wanted,
            key=key,
            fixed={"name": name, "checks": checks, "confirm": confirm, "options": _NO_OPTIONS},
            defaults=timing,
            also=(*foreign, "checks", "confirm", "environments"),
        )
        shared: list[str] = [known for known in theirs if known in own and known in node.entries]
        options = self._reader.table(
            only(node, *foreign),
            options_type,
            key=key,
            # A stand-in for what could not be read, so that the other mistakes are still told.
            defaults={known: getattr(table, known, None) for known in (*shared, "url") if known in theirs},
        )
        if table is None or options is None or not self._address(options, node, key):
            return None
        return msgspec.structs.replace(table, options=options)

    def _address(self, options: msgspec.Struct, node: Mapping, key: str) -> bool:
        """Whether the address is one of its kind; the options take it apart only when they are used."""
        url = node.get("url")
        parse = getattr(options, "place", None) or getattr(options, "places", None)
        if parse is None or (isinstance(url, Scalar) and self._reader.is_unset(url)):
            return True
        try:
            parse()
        except ValueError as error:
            at = url or node
            # The error may carry the address, and that a password, when it came from a variable.
            shown = str(error) if not (isinstance(url, Scalar) and "${" in url.text) else ""
            self._problems.add(
                at.at,
                shown or f"the value of {getattr(url, 'text', 'url')} is no address of this kind",
                key=f"{key}.url",
                width=at.width if isinstance(at, Scalar) else 1,
            )
            return False
        return True

    def _reachable(self, node: Mapping, key: str) -> bool:
        """Whether every address of a service can be probed, each mistake told at its own place."""
        sound = True
        instances = node.get("instances")
        places = [(field, node.get(field)) for field in ("url", "internal_url")]
        if isinstance(instances, Sequence):
            places += [("instances", item) for item in instances.items]
        for field, place in places:
            if not isinstance(place, Scalar) or is_null(place):
                continue
            text = self._reader.peek(place)
            if text is None:
                continue
            try:
                check_url(text)
            except ValueError as error:
                sound = False
                shown = f"the value of {place.text} is no URL to probe" if "${" in place.text else str(error)
                self._problems.add(place.at, shown, key=f"{key}.{field}", width=place.width)
        return sound

    def _http(
        self, node: Node, key: str, *, url: str, defaults: MappingType[str, object]
    ) -> HttpOptions | None:
        return self._reader.table(node, HttpOptions, key=f"{key}.http", fixed={"url": url}, defaults=defaults)

    def _timing(self, node: Mapping) -> dict[str, object]:
        """The defaults of interval and timeout: the environment's, and min(5 s, 0.8 x interval)."""
        interval = self._environment.check_interval
        own = node.get("interval")
        if isinstance(own, Scalar):
            with contextlib.suppress(ValueError):  # The table's conversion says so, with its place.
                interval = Duration.parse(own.text)
        return {
            "interval": interval,
            "timeout": Duration(min(_MAX_TIMEOUT_S, _TIMEOUT_SHARE * interval)),
        }

    def _confirm(self, node: Mapping, key: str) -> ConfirmPolicy:
        """What is said of this component over what is said of the environment, key by key."""
        general = self._environment.confirm
        own = node.get("confirm")
        if own is None or is_null(own):
            return general
        defaults = msgspec.structs.asdict(general)
        return self._reader.table(own, ConfirmPolicy, key=f"{key}.confirm", defaults=defaults) or general

    def _checks(self, node: Mapping, key: str, timing: dict[str, object]) -> dict[str, CheckSpec]:
        checks = node.get("checks")
        if checks is None or is_null(checks):
            return {}
        if not isinstance(checks, Mapping):
            self._not_a_table(checks, f"{key}.checks")
            return {}
        found = {}
        for name, entry in checks.entries.items():
            spec = self._check(name, entry.value, f"{key}.checks.{name}", timing)
            if spec is not None:
                found[name] = spec
        return found

    def _check(self, name: str, node: Node, key: str, timing: dict[str, object]) -> CheckSpec | None:
        if not isinstance(node, Mapping):
            self._not_a_table(node, key)
            return None
        kind = node.get("kind")
        if not isinstance(kind, Scalar):
            self._problems.add(node.at, f'"{name}" needs "kind": one of {", ".join(check_names())}', key=key)
            return None
        options_type = self._options_type(kind.text, kind, f"{key}.kind")
        if options_type is None:
            return None
        common = self._reader.table(
            only(node, *_COMMON),
            CheckSpec,
            key=key,
            fixed={"name": name, "options": _NO_OPTIONS},
            defaults=timing,
        )
        fields = options_type.__struct_encode_fields__
        options = self._reader.table(
            without(node, *_COMMON),
            options_type,
            key=key,
            defaults={"timeout": common.timeout} if common is not None and "timeout" in fields else {},
            also=[known for known in _COMMON if known not in fields],
        )
        if common is None or options is None:
            return None
        return msgspec.structs.replace(common, options=options)

    def _options_type(self, name: str, node: Node, key: str) -> type[msgspec.Struct] | None:
        try:
            return check_kind(name).options
        except KeyError:
            near, kinds = nearest(name, check_names()), ", ".join(check_names())
            self._problems.add(
                node.at,
                f'there is no kind of check called "{name}"' + ("" if near else f"; there are: {kinds}"),
                key=key,
                nearest=near,
                width=len(name),
            )
            return None

    def _not_a_table(self, node: Node, key: str) -> None:
        self._problems.add(node.at, f'"{key.rpartition(".")[2]}" must be a table of keys', key=key)


def fly_app(url: str | None) -> str | None:
    """The Fly.io app behind `url`, where its name tells."""
    host = urlsplit(url or "").hostname or ""
    app, _, domain = host.partition(".")
    return app if domain in {"fly.dev", "flycast", "internal"} else None


def _ways(service: Service) -> list[tuple[str, str]]:
    """The ways to probe, public first; none through a proxy that would start what sleeps on purpose."""
    wanted = service.probe or ("public" if service.url else "internal",)
    urls = {"public": service.url, "internal": service.internal_url}
    ways: list[tuple[str, str]] = [(way, url) for way in wanted if (url := urls[way])]
    ways += [(f"instance_{number}", url) for number, url in enumerate(service.instances, start=1)]
    return [(way, url) for way, url in ways if not (service.asleep_allowed and proxied_app(url) is not None)]
