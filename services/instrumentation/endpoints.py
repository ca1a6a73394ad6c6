"""The operational routes of every service: health, metrics, the API description, the fault switch."""

from __future__ import annotations

import hmac
import ipaddress

import msgspec
from aiohttp import web

from services.instrumentation import health_formats
from services.instrumentation.access import was_forwarded
from services.instrumentation.faults import PATH as FAULT_PATH
from services.instrumentation.faults import FaultSwitch
from services.instrumentation.health import Health, Status
from services.instrumentation.metrics import Metrics
from services.instrumentation.settings import Settings

_encode = msgspec.json.Encoder().encode


class Endpoints:
    """Handlers that only read what is already known; none of them waits for a dependency."""

    def __init__(
        self,
        settings: Settings,
        *,
        health: Health,
        metrics: Metrics,
        faults: FaultSwitch | None,
        description: bytes,
    ) -> None:
        self._settings = settings
        self._health = health
        self._metrics = metrics
        self._faults = faults
        self._description = description

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/livez", self.livez)
        app.router.add_get("/readyz", self.readyz)
        app.router.add_get("/startupz", self.startupz)
        app.router.add_get("/health", self.health)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_get("/openapi.json", self.openapi)
        if self._faults is not None:
            app.router.add_post(FAULT_PATH, self._faults.handle)
            app.router.add_get(FAULT_PATH, self._faults.handle)

    async def livez(self, _request: web.Request) -> web.Response:
        """The event loop answers: that is all it says."""
        return _health_json({"status": "pass"}, 200)

    async def readyz(self, request: web.Request) -> web.Response:
        reason = self._health.not_ready()
        status = 200 if reason is None else 503
        if "verbose" in request.query and self._may_see_details(request):
            return web.Response(text=health_formats.verbose_text(self._health), status=status)
        body = {"status": "pass"} if reason is None else {"status": "fail", "output": reason}
        return _health_json(body, status)

    async def startupz(self, _request: web.Request) -> web.Response:
        reason = self._health.not_started()
        if reason is None:
            return _health_json({"status": "pass"}, 200)
        return _health_json({"status": "fail", "output": f"waiting for {reason}"}, 503)

    async def health(self, request: web.Request) -> web.Response:
        """The document; 200 for pass and warn, 503 for fail. `?format=` speaks other dialects."""
        details = self._may_see_details(request)
        status = 503 if self._health.overall()[0] is Status.FAIL else 200
        match request.query.get("format", ""):
            case "spring":
                return _json(health_formats.spring(self._health, details=details), status)
            case "microprofile":
                return _json(health_formats.microprofile(self._health, details=details), status)
            case "aspnet":
                return _json(health_formats.aspnet(self._health, details=details), status)
            case _:
                document = health_formats.health_json(self._health, self._settings, details=details)
                return _health_json(document, status)

    async def metrics(self, request: web.Request) -> web.Response:
        body, content_type = self._metrics.render(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def openapi(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._description, content_type="application/json")

    def _may_see_details(self, request: web.Request) -> bool:
        """Details are for insiders: a private peer that no edge proxy forwarded, or the platform's key."""
        key = self._settings.api_key
        given = request.headers.get("X-API-Key")
        if key is not None and given is not None:
            return hmac.compare_digest(given.encode(), key.reveal().encode())
        if was_forwarded(request):
            return False
        try:
            peer = ipaddress.ip_address(request.remote or "")
        except ValueError:
            return False
        return peer.is_loopback or peer.is_private


def _health_json(body: dict[str, object] | dict[str, str], status: int) -> web.Response:
    return web.Response(
        body=_encode(body),
        status=status,
        content_type="application/health+json",
        headers={"Cache-Control": "no-store"},
    )


def _json(body: dict[str, object], status: int) -> web.Response:
    return web.Response(body=_encode(body), status=status, content_type="application/json")
