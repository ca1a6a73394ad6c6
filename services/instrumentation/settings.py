"""What a service reads from its environment, with the defaults of development, staging and production."""

from __future__ import annotations

import math
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from services.instrumentation.redaction import Secret

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_UNIT_S: Final = {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SEMCONV_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_OUR_KEY: Final = re.compile(r"gaia_(dev|staging|prod)_")
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_-]+")


class SettingsError(Exception):
    """A variable is missing or malformed: names it, the value expected and the remedy."""


class Environment(StrEnum):
    DEVELOPMENT = "development"
    STAGING = "staging"
    PRODUCTION = "production"

    @property
    def alias(self) -> str:
        return {"development": "dev", "staging": "staging", "production": "prod"}[self.value]


_ENVIRONMENT_NAMES: Final = {
    "development": Environment.DEVELOPMENT,
    "dev": Environment.DEVELOPMENT,
    "staging": Environment.STAGING,
    "stg": Environment.STAGING,
    "production": Environment.PRODUCTION,
    "prod": Environment.PRODUCTION,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What differs between the environments (the strategy's table)."""

    log_level: str
    check_interval_s: float
    trace_ratio: float
    pool_min: int
    pool_max: int
    replicas: int


_DEFAULTS: Final = {
    Environment.DEVELOPMENT: Defaults(
        log_level="DEBUG", check_interval_s=30.0, trace_ratio=1.0, pool_min=1, pool_max=4, replicas=1
    ),
    Environment.STAGING: Defaults(
        log_level="INFO", check_interval_s=15.0, trace_ratio=0.5, pool_min=1, pool_max=8, replicas=1
    ),
    Environment.PRODUCTION: Defaults(
        log_level="WARNING", check_interval_s=10.0, trace_ratio=0.1, pool_min=2, pool_max=16, replicas=3
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One service instance's configuration. Secrets are wrapped; everything else may be shown."""

    service: str
    version: str = "0.1.0"
    environment: Environment = Environment.DEVELOPMENT
    host: str = "127.0.0.1"
    port: int = 8080
    instance_id: str = "local"
    region: str | None = None
    on_fly: bool = False
    database_url: Secret | None = None
    migrations_url: Secret | None = None
    database_pooled: bool = False
    pool_min: int = 1
    pool_max: int = 4
    nats_url: Secret | None = None
    nats_namespace: str = "gaia.dev"
    nats_replicas: int = 1
    api_key: Secret | None = None
    log_level: str = "INFO"
    log_format: str = "json"
    trace_ratio: float = 1.0
    otlp_endpoint: str | None = None
    check_interval_s: float = 10.0
    buckets_s: tuple[float, ...] = (*_SEMCONV_BUCKETS[:10], 2.0, *_SEMCONV_BUCKETS[10:])
    drain_delay_s: float = 0.5
    shutdown_timeout_s: float = 15.0
    lag_limit_s: float = 30.0
    header_timeout_s: float = 10.0
    body_timeout_s: float = 10.0
    send_timeout_s: float = 30.0
    faults: bool = False
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_ca: str | None = None
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The raw variables, for what only one service reads (`ASSET_STORAGE`, `AUTH_URL`, ...)."""

    @classmethod
    def from_environment(cls, service: str, environ: Mapping[str, str]) -> Settings:
        """Raises SettingsError with one sentence for the first variable that is wrong."""
        environment = _environment(environ.get("ENVIRONMENT", "development"))
        defaults = _DEFAULTS[environment]
        on_fly = bool(environ.get("FLY_APP_NAME"))
        pool_max = _integer(environ, "DATABASE_POOL_MAX", defaults.pool_max)
        return cls(
            service=service,
            version=environ.get("GAIA_VERSION", "0.1.0"),
            environment=environment,
            host=environ.get("HOST", "127.0.0.1"),
            port=_integer(environ, "PORT", 8080),
            instance_id=environ.get("FLY_MACHINE_ID") or f"{socket.gethostname()}-{os.getpid()}",
            region=environ.get("FLY_REGION"),
            on_fly=on_fly,
            database_url=_secret(environ, "DATABASE_URL"),
            migrations_url=_secret(environ, "DATABASE_DIRECT_URL") or _secret(environ, "DATABASE_URL"),
            database_pooled=_flag(environ, "DATABASE_POOLED"),
            pool_min=min(_integer(environ, "DATABASE_POOL_MIN", defaults.pool_min), pool_max),
            pool_max=pool_max,
            nats_url=_secret(environ, "NATS_URL"),
            nats_namespace=_namespace(environ, environment),
            nats_replicas=_integer(environ, "NATS_REPLICAS", defaults.replicas if on_fly else 1),
            api_key=_api_key(environ, environment),
            log_level=_log_level(environ.get("LOG_LEVEL", defaults.log_level)),
            log_format=_log_format(environ.get("LOG_FORMAT", "json")),
            trace_ratio=_ratio(environ, "OTEL_TRACES_SAMPLER_ARG", defaults.trace_ratio),
            otlp_endpoint=environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or None,
            check_interval_s=duration(environ, "HEALTH_CHECK_INTERVAL", defaults.check_interval_s),
            buckets_s=_buckets(environ),
            # Fly Proxy needs up to its check interval to stop sending; a local supervisor does not.
            drain_delay_s=duration(environ, "DRAIN_DELAY", 5.0 if on_fly else 0.5),
            shutdown_timeout_s=duration(environ, "SHUTDOWN_TIMEOUT", 15.0),
            lag_limit_s=duration(environ, "LOOP_LAG_LIMIT", 30.0),
            header_timeout_s=duration(environ, "HEADER_TIMEOUT", 10.0),
            body_timeout_s=duration(environ, "BODY_TIMEOUT", 10.0),
            send_timeout_s=duration(environ, "SEND_TIMEOUT", 30.0),
            faults=_faults(environ, environment, on_fly=on_fly),
            tls_cert=environ.get("TLS_CERT_FILE"),
            tls_key=environ.get("TLS_KEY_FILE"),
            tls_ca=environ.get("TLS_CA_FILE"),
            options=environ,
        )

    def advertised_url(self, port: int) -> str:
        """Where neighbours reach this instance when it listens on `port`."""
        if url := self.options.get("ADVERTISE_URL"):
            return url.rstrip("/")
        host = self.options.get("FLY_PRIVATE_IP") or self.host
        scheme = "https" if self.tls_cert else "http"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    def urls(self, name: str) -> tuple[str, ...]:
        """The comma-separated instances in variable `name`, without trailing slashes."""
        return tuple(url.strip().rstrip("/") for url in self.options.get(name, "").split(",") if url.strip())

    def subject(self, *parts: str) -> str:
        """A NATS subject inside this environment's namespace: `gaia.prod.chat.room1`."""
        return ".".join((self.nats_namespace, *parts))

    def stream(self, name: str) -> str:
        """A JetStream stream name of this environment: `CHAT_prod`."""
        return f"{name}_{self.nats_namespace.removeprefix('gaia.').replace('.', '_')}"


def duration(environ: Mapping[str, str], name: str, default_s: float) -> float:
    """Seconds from `10s`, `250ms`, `5m` or a bare number of seconds."""
    text = environ.get(name)
    if text is None:
        return default_s
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise SettingsError(f'{name}: "{text}" is not a duration: write 10s, 250ms or 5m')
    return float(match[1]) * _UNIT_S[match[2]]


def _environment(name: str) -> Environment:
    try:
        return _ENVIRONMENT_NAMES[name.strip().lower()]
    except KeyError:
        raise SettingsError(f'ENVIRONMENT: "{name}" is none of development, staging, production') from None


def _integer(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name)
    if text is None:
        return default
    if not text.strip().isdecimal():
        raise SettingsError(f'{name}: "{text}" is not a whole number')
    return int(text)


def _ratio(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise SettingsError(f'{name}: "{text}" is not a ratio between 0 and 1')
    return value


def _secret(environ: Mapping[str, str], name: str) -> Secret | None:
    value = environ.get(name)
    return Secret(value) if value else None


def _api_key(environ: Mapping[str, str], environment: Environment) -> Secret | None:
    key = environ.get("API_KEY", "")
    prefix = _OUR_KEY.match(key)
    if prefix is not None and prefix[1] != environment.alias:
        raise SettingsError(f"API_KEY: is a key of another environment: make one for {environment.value}")
    return Secret(key) if key else None


def _flag(environ: Mapping[str, str], name: str) -> bool:
    return environ.get(name, "").strip().lower() in {"1", "true", "yes", "on"}


def _log_level(name: str) -> str:
    level = name.strip().upper()
    if level not in {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}:
        raise SettingsError(f'LOG_LEVEL: "{name}" is none of DEBUG, INFO, WARNING, ERROR, CRITICAL')
    return level


def _log_format(name: str) -> str:
    if name not in {"json", "text"}:
        raise SettingsError(f'LOG_FORMAT: "{name}" is neither json nor text')
    return name


def _namespace(environ: Mapping[str, str], environment: Environment) -> str:
    # Development shares one NATS server: GAIA_DEVELOPER keeps each developer's subjects apart.
    developer = environ.get("GAIA_DEVELOPER") if environment is Environment.DEVELOPMENT else None
    if developer is None:
        return f"gaia.{environment.alias}"
    if not _NAMESPACE.fullmatch(developer):
        raise SettingsError(f'GAIA_DEVELOPER: "{developer}" may only hold letters, digits, "-" and "_"')
    return f"gaia.{environment.alias}.{developer}"


def _buckets(environ: Mapping[str, str]) -> tuple[float, ...]:
    """The histogram's edges. Every latency threshold must be one, or "slower than 2 s" cannot be counted."""
    thresholds = tuple(_seconds_list(environ.get("LATENCY_THRESHOLDS", "2s"), "LATENCY_THRESHOLDS"))
    if "LATENCY_BUCKETS" not in environ:
        return tuple(sorted({*_SEMCONV_BUCKETS, *thresholds}))
    edges = tuple(sorted(set(_seconds_list(environ["LATENCY_BUCKETS"], "LATENCY_BUCKETS"))))
    for threshold in thresholds:
        if threshold not in edges:
            raise SettingsError(
                f"LATENCY_BUCKETS: the threshold {threshold:g}s of LATENCY_THRESHOLDS is no bucket edge: "
                f"add {threshold:g}s to LATENCY_BUCKETS"
            )
    return edges


def _seconds_list(text: str, name: str) -> list[float]:
    return [duration({name: part}, name, 0.0) for part in text.split(",") if part.strip()]


def _faults(environ: Mapping[str, str], environment: Environment, *, on_fly: bool) -> bool:
    if not _flag(environ, "GAIA_FAULTS"):
        return False
    if environment is Environment.PRODUCTION or on_fly:
        raise SettingsError(
            "GAIA_FAULTS: refused in production and on Fly.io: unset it, or set ENVIRONMENT=development"
        )
    return True
