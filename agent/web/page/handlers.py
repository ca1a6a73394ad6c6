"""`/`: the status page, rendered at most once a second however many read it."""

from __future__ import annotations

import base64
import gzip
import hashlib
from http import HTTPStatus
from pathlib import Path
from typing import Final

from msgspec import Struct

from agent.exposition.negotiation import accepts_gzip
from agent.web.exchange import Answer, Asked, Refused, number
from agent.web.overview import overview
from agent.web.page.document import View, body, whole
from agent.web.page.failures import failures_document
from agent.web.routes import Route
from agent.web.source import Source
from agent.web.verdict import sentence

_FRESH_S: Final = 1.0
_VIEWS_KEPT: Final = 32
_HERE: Final = Path(__file__).parent
_STYLE: Final = (_HERE / "page.css").read_text(encoding="utf-8")
_SCRIPT: Final = (_HERE / "page.js").read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


_POLICY: Final = (
    f"default-src 'none'; style-src {_digest(_STYLE)}; script-src {_digest(_SCRIPT)}; img-src data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class _Rendered(Struct, frozen=True, kw_only=True):
    seq: int
    at_s: float
    plain: bytes
    packed: bytes


class StatusPage:
    """The page of one agent, with what was rendered of it a moment ago."""

    def __init__(self) -> None:
        self._kept: dict[tuple[View, bool], _Rendered] = {}

    async def page(self, source: Source, asked: Asked) -> Answer:
        """The page. `env`, `show=problems`, `q` and `after` choose; `part=view` gives the changing part."""
        view = View(
            env=asked.query.get("env", "")[:100],
            problems=asked.query.get("show") == "problems",
            find=asked.query.get("q", "")[:80],
            after=int(number(asked, "after", default=0, low=0, high=1e6)),
        )
        if view.env and view.env not in {info.name for info in source.environments}:
            raise Refused(HTTPStatus.NOT_FOUND, "no such environment is watched here")
        found = await self._render(source, view, only_view=asked.query.get("part") == "view")
        packed = accepts_gzip(asked.headers.get("accept-encoding"))
        headers = {"Content-Security-Policy": _POLICY, "Vary": "Accept-Encoding"}
        if packed:
            headers["Content-Encoding"] = "gzip"
        text = found.packed if packed else found.plain
        return Answer(body=text, type="text/html; charset=utf-8", headers=headers)

    async def failures(self, source: Source, asked: Asked) -> Answer:
        """The last failures of the target that `env`, `service`, `check` and `vantage` name."""
        text = await failures_document(source, asked, style=_STYLE)
        headers = {"Content-Security-Policy": _POLICY}
        return Answer(body=text.encode(), type="text/html; charset=utf-8", headers=headers)

    async def _render(self, source: Source, view: View, *, only_view: bool) -> _Rendered:
        old = self._kept.get((view, only_view))
        unchanged = old is not None and old.seq == source.board.last_seq
        if old is not None and unchanged and 0 <= source.now_s() - old.at_s < _FRESH_S:
            return old
        seen = await overview(source)
        said = sentence(seen, started_s=source.agent().started_s)
        text = await body(source, seen, said, view)
        if not only_view:
            text = whole(text, seen, said, style=_STYLE, script=_SCRIPT)
        plain = text.encode()
        packed = gzip.compress(plain, compresslevel=1, mtime=0)
        if len(self._kept) >= _VIEWS_KEPT:
            self._kept.clear()
        new = _Rendered(seq=seen.seq, at_s=seen.now_s, plain=plain, packed=packed)
        self._kept[view, only_view] = new
        return new


def page_routes() -> tuple[Route, ...]:
    """The routes of one server."""
    page = StatusPage()
    return (Route(path="/", handler=page.page), Route(path="/failures", handler=page.failures))
