"""The assistant: asks the first provider that works, fails over in time, is honest when none does."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from services.chat.providers import Anthropic, Offline, OpenAi, Provider, ProviderError, Turn, Usage
from services.instrumentation.client import CallFailedError, HttpClient
from services.instrumentation.health import Criticality, Dependency, Reading, Status
from services.instrumentation.kit import Instrumentation
from services.instrumentation.redaction import Secret
from services.instrumentation.settings import Environment, SettingsError, duration
from services.instrumentation.tracing import Kind

logger = logging.getLogger(__name__)

HEALTH: Final = "assistant:providers"
_LONGEST: Final = 8000

Progress = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    provider: str


class Assistant:
    """Providers in order of preference. Prompts and answers never reach a log, a metric or a span."""

    def __init__(self, kit: Instrumentation, client: HttpClient) -> None:
        options = kit.settings.options
        self._kit = kit
        self.deadline_s = duration(options, "ASSISTANT_DEADLINE", 30.0)
        self._providers = providers_from(kit, client)
        self._failed: dict[str, str] = {}
        metrics = kit.metrics
        self._tokens = metrics.counter(
            "gen_ai_client_tokens_total",
            "Tokens used.",
            ("gen_ai_provider_name", "gen_ai_request_model", "gen_ai_token_type"),
        )
        self._duration = metrics.histogram(
            "gen_ai_client_operation_duration_seconds",
            "Duration of one provider's answer.",
            ("gen_ai_provider_name", "gen_ai_request_model", "error_type"),
        )
        kit.depends_on(
            Dependency(
                name=HEALTH, component_type="component", criticality=Criticality.DEGRADED, probe=self._health
            )
        )

    async def answer(self, turns: Sequence[Turn], progress: Progress) -> Answer:
        """The first complete answer, or the offline provider's; never raises for a provider's faults.

        `progress` is told the text so far; after a fail-over it starts anew.
        """
        end_s = time.monotonic() + self.deadline_s
        for number, provider in enumerate(self._providers):
            # A hanging provider may not eat the time of the next one.
            left_s = (end_s - time.monotonic()) / (len(self._providers) - number)
            text = await self._ask(provider, turns, progress, left_s)
            if text is not None:
                return Answer(text, provider.name)
        offline = Offline("the providers did not answer" if self._providers else "none is configured")
        text = await self._ask(offline, turns, progress, 1.0)
        assert text is not None
        return Answer(text, offline.name)

    async def _ask(
        self, provider: Provider, turns: Sequence[Turn], progress: Progress, limit_s: float
    ) -> str | None:
        usage, pieces = Usage(), ""
        start_s = time.monotonic()
        error_type = ""
        with self._kit.tracer.span(f"chat {provider.model}", Kind.CLIENT) as span:
            span.set("gen_ai.operation.name", "chat")
            span.set("gen_ai.provider.name", provider.name)
            span.set("gen_ai.request.model", provider.model)
            try:
                async with asyncio.timeout(limit_s):
                    async for piece in provider.answer(turns, usage):
                        pieces = (pieces + piece)[:_LONGEST]
                        await progress(pieces)
            except CallFailedError as error:
                error_type = error.failure.value
            except ProviderError as error:
                error_type = error.kind
            except TimeoutError:
                error_type = "timeout"
            if not pieces and not error_type:
                error_type = "empty_answer"
            if error_type:
                span.fail(error_type)
            span.set("gen_ai.usage.input_tokens", usage.input_tokens)
            span.set("gen_ai.usage.output_tokens", usage.output_tokens)
        self._count(provider, usage, error_type, time.monotonic() - start_s)
        return None if error_type else pieces

    def _count(self, provider: Provider, usage: Usage, error_type: str, spent_s: float) -> None:
        names = (provider.name, provider.model)
        self._tokens.labels(*names, "input").inc(usage.input_tokens)
        self._tokens.labels(*names, "output").inc(usage.output_tokens)
        self._duration.observe((*names, error_type), spent_s)
        if provider.upstream is None:
            return
        was_failing = provider.name in self._failed
        if error_type:
            self._failed[provider.name] = error_type
            if not was_failing:
                logger.warning("provider.failed", extra={"provider": provider.name, "error": error_type})
        elif self._failed.pop(provider.name, None):
            logger.info("provider.recovered", extra={"provider": provider.name})
        if was_failing is not bool(error_type):
            self._kit.health.suspect(HEALTH)

    async def _health(self) -> Reading:
        """Never a call: every look would cost money. What the last answers showed is what there is."""
        if not self._providers:
            chosen = self._kit.settings.options.get("CHAT_PROVIDER") == "offline"
            expected = chosen or self._kit.settings.environment is Environment.DEVELOPMENT
            return Reading(
                status=Status.PASS if expected else Status.WARN,
                output="the offline provider answers"
                if chosen
                else "no OPENAI_API_KEY or ANTHROPIC_API_KEY is set: the offline provider answers",
            )
        failed = [f"{name}: {why}" for name, why in self._failed.items()]
        return Reading(status=Status.WARN if failed else Status.PASS, output="; ".join(failed))


def providers_from(kit: Instrumentation, client: HttpClient) -> tuple[Provider, ...]:
    """The configured providers, `CHAT_PROVIDER` first. Raises SettingsError."""
    options = kit.settings.options
    chosen = options.get("CHAT_PROVIDER", "openai")
    if chosen not in {"openai", "anthropic", "offline"}:
        raise SettingsError(f'CHAT_PROVIDER: "{chosen}" is none of openai, anthropic, offline')
    if chosen == "offline":
        return ()
    found: list[Provider] = []
    if key := options.get("OPENAI_API_KEY"):
        found.append(
            OpenAi(
                client,
                key=Secret(key),
                url=options.get("OPENAI_BASE_URL", "https://api.openai.com"),
                model=options.get("OPENAI_MODEL", "gpt-5-mini"),
            )
        )
    if key := options.get("ANTHROPIC_API_KEY"):
        found.append(
            Anthropic(
                client,
                key=Secret(key),
                url=options.get("ANTHROPIC_BASE_URL", "https://api.anthropic.com"),
                model=options.get("ANTHROPIC_MODEL", "claude-haiku-4-5"),
            )
        )
    return tuple(sorted(found, key=lambda provider: provider.name != chosen))
