"""The gateway: one door to auth, assets and chat; routes, limits, and the health of the whole."""

from __future__ import annotations

import logging
import time
from typing import Final

from aiohttp import web

from services.gateway.credentials import Door
from services.gateway.discovery import Discovery
from services.gateway.paths import route_of
from services.gateway.pool import Instance, InstancePool
from services.gateway.proxy import Proxy
from services.gateway.watch import PoolWatch
from services.instrumentation.access import client_address
from services.instrumentation.authentication import remote_verifier
from services.instrumentation.breaker import BreakerPolicy
from services.instrumentation.client import HttpClient
from services.instrumentation.context import current_request
from services.instrumentation.health import Criticality
from services.instrumentation.kit import Instrumentation
from services.instrumentation.messaging import Broker
from services.instrumentation.problem import ProblemError
from services.instrumentation.rate_limit import Decision, RateLimit
from services.instrumentation.routes import Operation, openapi
from services.instrumentation.settings import Environment, SettingsError, duration

logger = logging.getLogger(__name__)

_SERVICES: Final = {"auth": "AUTH_URL", "asset": "ASSET_URL", "chat": "CHAT_URL"}
_PREFIXES: Final = {"auth": "/api/v1/auth", "asset": "/api/v1/assets", "chat": "/api/v1/chat"}
# Requests a second of one subject: roomy for people, tight for loops.
_RATE: Final = {Environment.DEVELOPMENT: 1000.0, Environment.STAGING: 200.0, Environment.PRODUCTION: 100.0}


class GatewayService:
    """Everything between a request's arrival and an upstream's answer."""

    def __init__(self, kit: Instrumentation) -> None:
        self._kit = kit
        self._client = HttpClient(kit)
        self._ejections = kit.metrics.counter("gateway_ejections_total", "Instances put aside.", ("service",))
        self._instances = kit.metrics.gauge("gateway_instances", "Instances known.", ("service",))
        broker = Broker(kit, criticality=Criticality.INFO)
        self.pools = {name: self._pool(name, variable, broker) for name, variable in _SERVICES.items()}
        verifier = remote_verifier(kit, self._client, broker)
        self._door = Door(kit, verifier=verifier, client=self._client, auth=self.pools["auth"])
        self._proxy = Proxy(kit, self._client)
        rate = _rate(kit)
        self._limit = RateLimit(rate=rate, burst=max(1, int(2 * rate)))
        for pool in self.pools.values():
            PoolWatch(kit, self._client, pool)

    def _pool(self, name: str, variable: str, broker: Broker) -> InstancePool:
        def ejected(instance: Instance) -> None:
            self._ejections.labels(name).inc()
            logger.warning("instance.ejected", extra={"upstream": name, "address": instance.upstream.address})

        pool = InstancePool(name, on_ejection=ejected)
        settings = self._kit.settings
        policy = BreakerPolicy(open_s=duration(settings.options, "BREAKER_OPEN", 10.0))
        Discovery(
            self._kit,
            self._client,
            pool,
            urls=settings.urls(variable),
            broker=broker,
            policy=policy,
            count=self._instances.labels(name),
        )
        return pool

    def application(self) -> web.Application:
        # Bodies stream through: no limit here, the services have theirs.
        app = web.Application(client_max_size=0)
        self._kit.description = openapi("Gaia gateway", self._kit.settings.version, self._operations())
        self._kit.attach(app)
        app.on_shutdown.append(self._proxy.relay.say_goodbye)
        # A catch-all: the route is decided by the raw path, before anything decodes it.
        app.router.add_route("*", "/{path:.*}", self._handle)
        return app

    def _operations(self) -> tuple[Operation, ...]:
        return tuple(
            Operation(
                method=method,
                path=f"{prefix}/{{path}}",
                handler=self._handle,
                summary=f"Passed to {name}; its own /openapi.json describes it.",
            )
            for name, prefix in _PREFIXES.items()
            for method in ("GET", "POST", "DELETE")
        )

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        context = current_request.get()
        assert context is not None
        context.route = "__unmatched__"
        prefix, service = route_of(request.raw_path.partition("?")[0])
        context.route = f"{prefix}/*"
        address = client_address(request, on_fly=self._kit.settings.on_fly)
        context.identity, credentials = await self._door.admit(request)
        decision = self._limit.take(context.identity.subject or address, time.monotonic())
        if not decision.allowed:
            raise _too_many(decision)
        response = await self._proxy.forward(request, self.pools[service], credentials)
        if not response.prepared:
            response.headers.update(decision.headers)
        return response


def _too_many(decision: Decision) -> ProblemError:
    return ProblemError(429, "too many requests: slow down", reason="rate_limited", headers=decision.headers)


def _rate(kit: Instrumentation) -> float:
    text = kit.settings.options.get("RATE_LIMIT")
    if text is None:
        return _RATE[kit.settings.environment]
    try:
        rate = float(text.removesuffix("/s"))
    except ValueError:
        rate = 0.0
    if rate <= 0:
        raise SettingsError(f'RATE_LIMIT: "{text}" is not a rate: write requests per second, such as 100/s')
    return rate
