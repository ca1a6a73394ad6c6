"""`/livez`, `/readyz` and `/health`: the agent's own."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

import msgspec

from agent.web.exchange import TEXT, Answer, Asked
from agent.web.source import AgentPart, Source
from checks.finding import State

_HEALTH_JSON: Final = "application/health+json"
_WORDS: Final = {State.DOWN: "fail", State.DEGRADED: "warn", State.UNKNOWN: "warn", State.STARTING: "warn"}


async def livez(_: Source, __: Asked) -> Answer:
    """The loop turns: that this is answered is the answer."""
    return Answer(body=b"ok\n", type=TEXT)


async def readyz(source: Source, _: Asked) -> Answer:
    """200 once every part runs; 503 and what is missing until then."""
    agent = source.agent()
    if agent.ready:
        return Answer(body=b"ok\n", type=TEXT)
    waiting = [f"{part.name}: {part.text}" for part in agent.parts if part.state is not State.UP]
    body = "\n".join(["not ready", *waiting]) + "\n"
    return Answer(body=body.encode(), type=TEXT, status=HTTPStatus.SERVICE_UNAVAILABLE)


async def health(source: Source, _: Asked) -> Answer:
    """The agent's parts as a health document (draft-inadarei-api-health-check-06); 503 if one is down."""
    agent, now = source.agent(), datetime.fromtimestamp(source.now_s(), tz=UTC)
    worst = _worst(agent.parts)
    document: dict[str, object] = {
        "status": worst,
        "version": "1",
        "releaseId": agent.version,
        "serviceId": f"gaia-agent/{source.platform}",
        "description": "gaia agent",
        "output": agent.config_problem or "",
        "checks": {
            "uptime": [{"componentType": "system", "observedValue": _since(source), "observedUnit": "s"}],
            "eventLoop:lag": [{"observedValue": agent.loop_lag_s, "observedUnit": "s"}],
            "probes:late": [{"observedValue": agent.late_probes}],
            "pages:undelivered": [{"observedValue": agent.undelivered}],
            **{
                part.name: [
                    {
                        "status": _WORDS.get(part.state, "pass"),
                        "output": part.text,
                        "time": now.isoformat(timespec="milliseconds"),
                    }
                ]
                for part in agent.parts
            },
        },
    }
    code = HTTPStatus.SERVICE_UNAVAILABLE if worst == "fail" else HTTPStatus.OK
    return Answer(body=msgspec.json.encode(document), type=_HEALTH_JSON, status=code)


def _worst(parts: tuple[AgentPart, ...]) -> str:
    words = {_WORDS.get(part.state, "pass") for part in parts}
    return next((word for word in ("fail", "warn") if word in words), "pass")


def _since(source: Source) -> float:
    return round(source.now_s() - source.agent().started_s, 3)
