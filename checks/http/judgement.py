"""From an answer to a Finding: pure. The body wins over the status code, and a disagreement is told."""

from __future__ import annotations

import re
from typing import Final

import msgspec
from msgspec import Struct

from checks.finding import State
from checks.health_document import HealthDocument, read
from checks.http.answer import Answer
from checks.http.options import Expect, HttpOptions
from checks.reason import Reason
from checks.wire.look import spell

_SERVER_ERROR: Final = 500
_WORST_CLAIMS: Final = (State.DOWN, State.DEGRADED)


class Judgement(Struct, frozen=True, kw_only=True):
    """A state, why, and what the address did, as the end of a sentence."""

    state: State
    reason: Reason
    words: str
    document: HealthDocument | None = None


class Expectation:
    """What a right answer looks like, prepared once; judges answers."""

    __slots__ = ("_accepted", "_body", "_document", "_expect", "_options", "tls")

    def __init__(self, options: HttpOptions) -> None:
        self._options = options
        self._expect = options.expect
        self._accepted = options.expect.accepted()
        # A healthy service says the same each time: its last document is not read again.
        self._body = b""
        self._document: HealthDocument | None = None
        self.tls = options.tls

    @property
    def reads_headers(self) -> bool:
        """Whether a header field may decide."""
        return bool(self._expect.header or self._expect.header_not or self._expect.header_if_sent)

    def slow(self, latency_s: float) -> bool:
        """Whether a right answer that took `latency_s` is too slow."""
        return latency_s > self._options.slower_than

    def accepts(self, status: int) -> bool:
        return status in self._accepted

    def judge(self, answer: Answer, latency_s: float, *, secure: bool) -> Judgement:
        """Judge a whole answer that took `latency_s`, through TLS if `secure`."""
        status = answer.head.status
        document = self._read(answer.body) if self._options.health != "off" else None
        accepted = status in self._accepted
        if document is not None:
            spoken = _spoken(document, status, accepted=accepted)
            if spoken is not None:
                return spoken
        if not accepted:
            return _refused(answer, self._expect)
        failed = _insecurity(self._expect, secure=secure) or _mismatch(answer, self._expect)
        if failed is None and document is None and self._options.health == "require":
            failed = Reason.HEALTH_DOCUMENT, f"answers {status} without a health document"
        if failed is not None:
            return Judgement(state=State.DOWN, reason=failed[0], words=failed[1], document=document)
        words = answers(status, latency_s)
        if self.slow(latency_s):
            return Judgement(
                state=State.DEGRADED,
                reason=Reason.SLOW,
                words=f"{words}, slower than {self._options.slower_than}",
                document=document,
            )
        return Judgement(state=State.UP, reason=Reason.OK, words=words, document=document)

    def _read(self, body: bytes) -> HealthDocument | None:
        if body != self._body:
            self._document, self._body = read(body), body
        return self._document


def answers(status: int, latency_s: float) -> str:
    """What a right answer did, in words."""
    return f"answers {status} in {spell(latency_s)}"


def _spoken(document: HealthDocument, status: int, *, accepted: bool) -> Judgement | None:
    """What the document decides; None when it only agrees that all is well."""
    if (
        document.state is State.UP
        and accepted
        and not any(claim.state is State.DOWN for claim in document.claims)
    ):
        return None
    named = ", ".join(
        f"{claim.about} {claim.state}" + (f" ({claim.output[:80]})" if claim.output else "")
        for worst in _WORST_CLAIMS
        for claim in document.claims
        if claim.state is worst
    )
    about = f": {named[:300]}" if named else f": {document.output[:200]}" if document.output else ""
    match document.state:
        case State.DOWN | State.DEGRADED | State.STARTING:
            reason = Reason.STARTING if document.state is State.STARTING else Reason.HEALTH_DOCUMENT
            return Judgement(
                state=document.state,
                reason=reason,
                words=f'says it is "{document.word}"{about} (status {status})',
                document=document,
            )
        case State.UP if any(claim.state is State.DOWN for claim in document.claims):
            return Judgement(
                state=State.DEGRADED,
                reason=Reason.HEALTH_DOCUMENT,
                words=f'says it is "{document.word}" but lists{about.removeprefix(":")} (status {status})',
                document=document,
            )
        case State.UP if not accepted and status >= _SERVER_ERROR:
            return Judgement(
                state=State.DEGRADED,
                reason=Reason.CONTRADICTION,
                words=f'says it is "{document.word}" but answers {status}: load balancers will avoid it',
                document=document,
            )
    return None


def _refused(answer: Answer, expect: Expect) -> Judgement:
    expected = ", ".join(str(status) for status in expect.status)
    phrase = f" {answer.head.phrase[:60]}" if answer.head.phrase else ""
    return Judgement(
        state=State.DOWN,
        reason=Reason.STATUS,
        words=f"answers {answer.head.status}{phrase}, expected {expected}",
    )


def _insecurity(expect: Expect, *, secure: bool) -> tuple[Reason, str] | None:
    if expect.tls is None or expect.tls == secure:
        return None
    if secure:
        return Reason.TLS_UNWANTED, "answers through TLS, expected without"
    return Reason.NOT_TLS, "answers without TLS, expected through TLS: it redirects nobody to https"


def _mismatch(answer: Answer, expect: Expect) -> tuple[Reason, str] | None:
    """The first condition on version, header or body that does not hold."""
    if expect.version and answer.head.version not in expect.version:
        expected = ", ".join(expect.version)
        return Reason.HTTP_VERSION, f"answers in HTTP/{answer.head.version}, expected {expected}"
    for name, pattern in expect.header.items():
        values = [value for key, value in answer.head.fields if key == name.lower()]
        if not any(re.search(pattern, value) for value in values):
            held = f'with the header "{name}: {values[0][:80]}"' if values else f'without the header "{name}"'
            return Reason.HEADER_MATCH, f"answers {held}, expected {pattern}"
    for name, pattern in expect.header_if_sent.items():
        values = [value for key, value in answer.head.fields if key == name.lower()]
        if values and not any(re.search(pattern, value) for value in values):
            words = f'answers with the header "{name}: {values[0][:80]}", expected {pattern}'
            return Reason.HEADER_MATCH, words
    for name, pattern in expect.header_not.items():
        for key, value in answer.head.fields:
            if key == name.lower() and re.search(pattern, value):
                return Reason.HEADER_MATCH, f'answers with the header "{name}: {value[:80]}", like {pattern}'
    if not (expect.body or expect.body_not or expect.json):
        return None
    text = answer.body.decode("utf-8", "replace")
    for pattern in expect.body:
        if not re.search(pattern, text):
            return Reason.BODY_MATCH, f"answers a body without {pattern}"
    for pattern in expect.body_not:
        if re.search(pattern, text):
            return Reason.BODY_MATCH, f"answers a body with {pattern}"
    return _json_mismatch(answer.body, expect)


def _json_mismatch(body: bytes, expect: Expect) -> tuple[Reason, str] | None:
    if not expect.json:
        return None
    try:
        tree = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Reason.BODY_MATCH, "answers a body that is not JSON"
    for condition in expect.conditions():
        failure = condition.failure(tree)
        if failure is not None:
            return Reason.BODY_MATCH, f"answers JSON where {failure}"
    return None
