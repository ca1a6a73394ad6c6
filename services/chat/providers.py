"""Language models behind one interface: OpenAI, Anthropic, and an offline one that says that it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import aiohttp
import msgspec
from yarl import URL

from services.instrumentation.client import HttpClient, Upstream
from services.instrumentation.redaction import Secret

_ANSWER_TOKENS: Final = 1024
_HEADERS_S: Final = 10.0
_IDLE_S: Final = 10.0
_LINE_BYTES: Final = 256 * 1024
_SYSTEM: Final = "You are the assistant of a chat room of the Gaia platform. Answer briefly and honestly."


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of the conversation; `role` is user or assistant."""

    role: str
    text: str


@dataclass(slots=True)
class Usage:
    """Tokens of one answer, filled in as the provider tells them."""

    input_tokens: int = 0
    output_tokens: int = 0


class ProviderError(Exception):
    """The provider gave no usable answer; `kind` is bounded and safe to show."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Provider(Protocol):
    """Answers a conversation piece by piece."""

    @property
    def name(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def upstream(self) -> Upstream | None:
        """Whom it calls, with the breaker; None when it calls nobody."""
        ...

    def answer(self, turns: Sequence[Turn], usage: Usage, /) -> AsyncIterator[str]:
        """Raises ProviderError, or the client's CallFailedError."""
        ...


class OpenAi:
    """OpenAI's chat completions, streamed."""

    name = "openai"

    def __init__(self, client: HttpClient, *, key: Secret, url: str, model: str) -> None:
        self.model = model
        self.upstream = client.upstream(self.name, url)
        self._client = client
        self._key = key
        self._url = URL(url) / "v1/chat/completions"

    async def answer(self, turns: Sequence[Turn], usage: Usage) -> AsyncIterator[str]:
        body = {
            "model": self.model,
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_completion_tokens": _ANSWER_TOKENS,
            "messages": [{"role": "system", "content": _SYSTEM}, *_messages(turns)],
        }
        headers = {"Authorization": f"Bearer {self._key.reveal()}"}
        async for _, data in _stream(self._client, self.upstream, self._url, headers=headers, body=body):
            if told := data.get("usage"):
                usage.input_tokens = int(told.get("prompt_tokens", 0))
                usage.output_tokens = int(told.get("completion_tokens", 0))
            for choice in data.get("choices") or ():
                if text := (choice.get("delta") or {}).get("content"):
                    yield text


class Anthropic:
    """Anthropic's messages, streamed."""

    name = "anthropic"

    def __init__(self, client: HttpClient, *, key: Secret, url: str, model: str) -> None:
        self.model = model
        self.upstream = client.upstream(self.name, url)
        self._client = client
        self._key = key
        self._url = URL(url) / "v1/messages"

    async def answer(self, turns: Sequence[Turn], usage: Usage) -> AsyncIterator[str]:
        body = {
            "model": self.model,
            "stream": True,
            "max_tokens": _ANSWER_TOKENS,
            "system": _SYSTEM,
            "messages": _messages(turns),
        }
        headers = {"x-api-key": self._key.reveal(), "anthropic-version": "2023-06-01"}
        async for event, data in _stream(self._client, self.upstream, self._url, headers=headers, body=body):
            if event == "error":
                # Overload may strike in the middle of a 200.
                raise ProviderError(str((data.get("error") or {}).get("type", "error"))[:40])
            told = (data.get("message") or data).get("usage") or {}
            usage.input_tokens = int(told.get("input_tokens") or usage.input_tokens)
            usage.output_tokens = int(told.get("output_tokens") or usage.output_tokens)
            if event == "content_block_delta" and (text := (data.get("delta") or {}).get("text")):
                yield text


class Offline:
    """Answers without a model, and says so: for development, tests, and when every model is away."""

    name = "offline"
    model = "none"
    upstream = None

    def __init__(self, why: str) -> None:
        self._why = why

    async def answer(self, turns: Sequence[Turn], _usage: Usage) -> AsyncIterator[str]:
        words = len(turns[-1].text.split()) if turns else 0
        yield f"No language model answered: {self._why}. "
        yield f"Your message of {words} word{'' if words == 1 else 's'} was received and stored."


def _messages(turns: Sequence[Turn]) -> list[dict[str, str]]:
    """The turns, starting with a user's and alternating, as both providers want them."""
    merged: list[dict[str, str]] = []
    for turn in turns:
        if merged and merged[-1]["role"] == turn.role:
            merged[-1]["content"] += f"\n\n{turn.text}"
        elif merged or turn.role == "user":
            merged.append({"role": turn.role, "content": turn.text})
    return merged


async def _stream(
    client: HttpClient,
    upstream: Upstream,
    url: URL,
    *,
    headers: Mapping[str, str],
    body: Mapping[str, object],
) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """(event, data) of the provider's server-sent events."""
    sent = {**headers, "Content-Type": "application/json", "Accept": "text/event-stream"}
    async with client.call(
        upstream,
        "POST",
        url,
        headers=sent,
        data=msgspec.json.encode(body),
        timeout_s=_HEADERS_S,
        idle_s=_IDLE_S,
    ) as response:
        if response.status != 200:
            raise ProviderError(f"http_{response.status}")
        event = ""
        try:
            async for raw in response.content:
                line = raw.strip()
                if len(line) > _LINE_BYTES:
                    raise ProviderError("line_too_long")
                if line.startswith(b"event:"):
                    event = line[6:].strip().decode("ascii", "replace")
                elif line.startswith(b"data:") and line[5:].strip() != b"[DONE]":
                    yield event, msgspec.json.decode(line[5:], type=dict[str, Any])
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise ProviderError(type(error).__name__) from error
