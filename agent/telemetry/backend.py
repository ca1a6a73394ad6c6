"""The far end of a destination: one request at a time, sent until its answer is final, and how it fares."""

from __future__ import annotations

import asyncio
import gzip
import logging
from typing import Final

from agent.telemetry import answers
from agent.telemetry.inflate import inflate
from agent.telemetry.options import DestinationOptions
from agent.telemetry.pace import PAUSING, RETRYABLE, Pace
from agent.telemetry.post import Post, Reply
from agent.telemetry.signals import Rejected, Signal

logger = logging.getLogger(__name__)

MAX_PLAIN: Final = 1 << 30


class Backend:
    """Keeps the pace of each signal.

    `paused` says why nothing is sent (nobody is there, or we may not), `away` why nothing gets through;
    both are empty while all is well.
    """

    def __init__(
        self, name: str, options: DestinationOptions, post: Post, *, first_s: float, cap_s: float
    ) -> None:
        self._name = name
        self._options = options
        self._post = post
        self._pace = {
            signal: Pace(max_bytes=options.batch, first_s=first_s, cap_s=cap_s) for signal in options.signals
        }
        self.paused = ""
        self.away = ""

    def batch_bytes(self, signal: Signal) -> int:
        """How large a request may be just now."""
        return self._pace[signal].batch_bytes

    async def until_answered(self, signal: Signal, body: bytes, *, gzipped: bool) -> Reply:
        """Send until the answer is final."""
        pace = self._pace[signal]
        while True:
            reply = await self._send(signal, body, gzipped=gzipped)
            if reply.status in PAUSING:
                self._pause(reply)
            elif reply.status not in RETRYABLE:
                self.away = ""
                if self.paused:
                    logger.info("telemetry.resumed", extra={"destination": self._name})
                    self.paused = ""
                if 200 <= reply.status < 300:
                    pace.accepted()
                return reply
            self.away = f"HTTP {reply.status}" if reply.status else reply.body.decode("utf-8", "replace")[:80]
            if pace.failures == 0:
                logger.warning(
                    "telemetry.destination_away", extra={"destination": self._name, "status": reply.status}
                )
            await asyncio.sleep(pace.refused(status=reply.status, asked_s=reply.retry_after_s))

    def _pause(self, reply: Reply) -> None:
        why = f"HTTP {reply.status}: check the address and the credentials"
        if self.paused != why:
            logger.error("telemetry.paused", extra={"destination": self._name, "status": reply.status})
        self.paused = why

    async def _send(self, signal: Signal, body: bytes, *, gzipped: bool) -> Reply:
        headers = {name: value.reveal() for name, value in self._options.headers.items()}
        if self._options.kind == "loki":
            from agent.telemetry.loki import push_body

            try:
                plain = inflate(body, max_bytes=MAX_PLAIN) if gzipped else body
                content = push_body(plain)
            except Rejected as rejected:
                return Reply(status=400, body=rejected.text.encode())
            url = self._options.url.rstrip("/") + "/loki/api/v1/push"
            headers["Content-Type"] = "application/json"
            return await self._post(url, content, headers)
        url = f"{self._options.url.rstrip('/')}/v1/{signal.value}"
        headers["Content-Type"] = answers.PROTOBUF
        headers["Content-Encoding"] = "gzip"
        return await self._post(url, body if gzipped else gzip.compress(body, 1), headers)
