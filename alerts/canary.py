"""Places outside that should always answer: whether it is us, when nearly nothing else does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal
from urllib.parse import urlsplit

from msgspec import Struct

from alerts.channel import Channel
from alerts.receiver import Opsgenie, Pagerduty, Slack, Smtp, Webhook

_PORTS: Final = {"http": 80, "https": 443}
_DNS_NAME: Final = "example.org"
_HOW: Final = "write host:port, tcp://host:port or dns://server/name"


class Canary(Struct, frozen=True, kw_only=True):
    """One such place: something that accepts a connection, or a name server that answers a question."""

    kind: Literal["tcp", "dns"]
    host: str
    port: int
    name: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"dns://{host}:{self.port}/{self.name}" if self.kind == "dns" else f"{host}:{self.port}"


def parse(text: str) -> Canary:
    """`1.1.1.1:443`, `tcp://[2606:4700::1111]:443`, `dns://9.9.9.9/example.org`. Raises ValueError."""
    parts = urlsplit(text if "://" in text else f"tcp://{text}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f'"{text}" is no canary ({error}): {_HOW}') from error
    if parts.scheme == "dns" and host:
        return Canary(kind="dns", host=host, port=port or 53, name=parts.path.strip("/") or _DNS_NAME)
    if parts.scheme != "tcp" or not host or not port or parts.path:
        raise ValueError(f'"{text}" is no canary: {_HOW}')
    return Canary(kind="tcp", host=host, port=port)


def validated(written: tuple[str, ...]) -> tuple[Canary, ...]:
    """Those written, of which there must be none or two. Raises ValueError with the remedy."""
    found = tuple(dict.fromkeys(parse(text) for text in written))
    if len({one.host for one in found}) == 1:
        raise ValueError("one canary may fail by itself: name at least two that do not depend on each other")
    return found


def stand_ins(channels: Iterable[Channel]) -> tuple[Canary, ...]:
    """Where none are written, the receivers' own places: if those are cut off too, no page can leave."""
    places = (_place(channel.options) for channel in channels)
    return tuple(dict.fromkeys(place for place in places if place is not None))


def _place(options: object) -> Canary | None:
    match options:
        case Webhook(url=secret) | Slack(webhook=secret) if secret is not None:
            url = secret.reveal()
        case Pagerduty(url=url) | Opsgenie(url=url) | Slack(url=url):
            pass
        case Smtp(host=host, port=port):
            return Canary(kind="tcp", host=host, port=port)
        case _:
            return None
    parts = urlsplit(url)
    port = parts.port or _PORTS.get(parts.scheme, 0)
    return Canary(kind="tcp", host=parts.hostname, port=port) if parts.hostname and port else None
