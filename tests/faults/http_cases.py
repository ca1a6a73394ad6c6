"""Every way an HTTP origin can behave, with the one right verdict."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass, field
from typing import Any

from tests.faults.origin import Behaviour, Call, drips, resets, sends, sends_and_hangs

OK = b"HTTP/1.1 200 OK\r\n"
MEGABYTE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """A behaviour, the options it is probed with, and the verdict. `path` is added after the name."""

    name: str
    behaviour: Behaviour
    verdict: str
    options: dict[str, Any] = field(default_factory=dict)
    path: str = ""
    # Why blackbox_exporter's verdict may differ; without it both must agree.
    differs: str = ""


def answer(body: bytes = b"hello", *headers: bytes, start: bytes = OK) -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return start + b"Content-Length: %d\r\n" % len(body) + lines + b"\r\n" + body


def chunked(*chunks: bytes, trailer: bytes = b"", extension: bytes = b"") -> bytes:
    body = b"".join(b"%x%s\r\n%s\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
    return OK + b"Transfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n" + trailer + b"\r\n"


def encoded(body: bytes, coding: bytes) -> bytes:
    return answer(body, b"Content-Encoding: " + coding)


def json(body: bytes, status: bytes = b"200 OK", kind: bytes = b"application/json") -> Behaviour:
    return sends(answer(body, b"Content-Type: " + kind, start=b"HTTP/1.1 " + status + b"\r\n"))


def raw_deflate(body: bytes) -> bytes:
    squeeze = zlib.compressobj(wbits=-15)
    return squeeze.compress(body) + squeeze.flush()


def bytewise(data: bytes) -> Behaviour:
    return sends(*(data[place : place + 1] for place in range(len(data))), pause_s=0.0005)


# Where our HTTP parser refuses what Go's reads; docs/api.md lists the same.
STRICT = {
    "version": "an answer in another version than HTTP/1.x (RFC 9112 2.3)",
    "name": "a field name that is empty or followed by a space (RFC 9112 5.1)",
    "value": "a NUL, a bare CR or another control character in a field (RFC 9110 5.5)",
    "framing": "chunks in an HTTP/1.0 answer (RFC 9112 6.1)",
}
LIMIT = "it has no limit, or a larger one"
UNREAD = "it does not decode what it did not ask for, so it does not see that it is broken"
BOMB = gzip.compress(bytes(64 * MEGABYTE), 9)
UP, TOO_LARGE, PROTOCOL, DECODE = "up ok", "down body_too_large", "down protocol", "down decode"
CUT, TIMEOUT = "down incomplete_body", "down timeout"
SHORT = {"timeout": 0.5}


def case(name: str, behaviour: Behaviour | bytes, verdict: str, **more: Any) -> Case:
    behave = sends(behaviour) if isinstance(behaviour, bytes) else behaviour
    return Case(name=name, behaviour=behave, verdict=verdict, **more)


FRAMING = (
    case("length", answer(), UP),
    case("empty", answer(b""), UP),
    case("close-delimited", OK + b"\r\nhello", UP),
    case("http-1-0", b"HTTP/1.0 200 OK\r\n\r\nhello", UP),
    case("http-1-0-length", answer(start=b"HTTP/1.0 200 OK\r\n"), UP),
    case("http-1-2", answer(start=b"HTTP/1.2 200 OK\r\n"), UP),
    case("chunks", chunked(b"hello", b"world"), UP),
    case("chunk-extension", chunked(b"hello", extension=b";a=b"), UP),
    case("chunk-trailer", chunked(b"hello", trailer=b"X-Sum: 1\r\n"), UP),
    case("chunk-hex-upper", OK + b"Transfer-Encoding: chunked\r\n\r\n00A\r\n0123456789\r\n0\r\n\r\n", UP),
    case("chunk-coding-case", OK + b"transfer-encoding: Chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", UP),
    case("no-content", b"HTTP/1.1 204 No Content\r\n\r\n", UP),
    case("head", OK + b"Content-Length: 5000\r\n\r\n", UP, options={"method": "HEAD"}),
    case("interim-100", b"HTTP/1.1 100 Continue\r\n\r\n" + answer(), UP),
    case("interim-103", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 2 + answer(), UP),
    case("bare-lf", b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", UP),
    case("mixed-line-ends", b"HTTP/1.1 200 OK\nContent-Length: 5\r\n\nhello", UP),
    case("folded-header", answer(b"x", b"X-Long: a\r\n b"), UP),
    case("length-twice-equal", OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi", UP),
    case("length-padded", OK + b"Content-Length:   2  \r\n\r\nhi", UP),
    case("no-phrase", answer(start=b"HTTP/1.1 200\r\n"), UP),
    case("empty-phrase", answer(start=b"HTTP/1.1 200 \r\n"), UP),
    case("latin-phrase", answer(start=b"HTTP/1.1 200 \xc3\x9cp\r\n"), UP),
    case("empty-header-value", answer(b"x", b"X-Empty:"), UP),
    case("large-header", answer(b"x", b"X-Large: " + b"a" * 50_000), UP),
    case("many-headers", answer(b"x", *(b"X-%d: y" % n for n in range(1500))), UP),
    case("large-body", answer(b"a" * 900_000), UP),
    case("byte-by-byte", bytewise(answer()), UP),
    case("chunks-byte-by-byte", bytewise(chunked(b"hello")), UP),
    case("surplus-after-body", answer() + b"surplus", UP),
    case("length-and-chunks", OK + b"Content-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", UP),
    case("long-then-close", sends_and_hangs(answer()), UP),
    case("nothing", sends(), "down connection_closed"),
    case("reset", resets(), "down connection_reset"),
    case("reset-in-header", resets(OK), "down connection_reset"),
    case("reset-in-body", resets(OK + b"Content-Length: 9\r\n\r\nhi"), "down connection_reset"),
    case("garbage", b"\x00\x01\x02garbage\r\n\r\n", PROTOCOL),
    case("ssh-banner", b"SSH-2.0-OpenSSH_9.2\r\n", PROTOCOL),
    case("smtp-banner", b"220 mail ESMTP\r\n", PROTOCOL),
    case("tls-alert", b"\x15\x03\x01\x00\x02\x02\x46", PROTOCOL),
    case("icy", answer(start=b"ICY 200 OK\r\n"), PROTOCOL),
    case("status-words", answer(start=b"HTTP/1.1 abc OK\r\n"), PROTOCOL),
    case("status-two-digits", answer(start=b"HTTP/1.1 20 OK\r\n"), PROTOCOL),
    case("status-four-digits", answer(start=b"HTTP/1.1 2000 OK\r\n"), PROTOCOL),
    case("status-missing", answer(start=b"HTTP/1.1\r\n"), PROTOCOL),
    case("status-negative", answer(start=b"HTTP/1.1 -200 OK\r\n"), PROTOCOL),
    case("http-2", answer(start=b"HTTP/2.0 200 OK\r\n"), "down http_version", differs=STRICT["version"]),
    case("http-0-9", answer(start=b"HTTP/0.9 200 OK\r\n"), "down http_version", differs=STRICT["version"]),
    case("http-3", answer(start=b"HTTP/3.0 200 OK\r\n"), "down http_version", differs=STRICT["version"]),
    case("blank-first", b"\r\n\r\n" + answer(), PROTOCOL),
    case("cut-status-line", b"HTTP/1.1 20", PROTOCOL),
    case("cut-header", OK + b"Content-Le", PROTOCOL),
    case("header-no-colon", OK + b"oops\r\n\r\n", PROTOCOL),
    case("header-space-colon", answer(b"x", b"X-A : b"), PROTOCOL, differs=STRICT["name"]),
    case("header-empty-name", answer(b"x", b": b"), PROTOCOL, differs=STRICT["name"]),
    case("header-nul", answer(b"x", b"X-A: a\0b"), PROTOCOL, differs=STRICT["value"]),
    case("header-control", answer(b"x", b"X-A: a\x07b"), PROTOCOL, differs=STRICT["value"]),
    case("header-bare-cr", answer(b"x", b"X-A: a\rb"), PROTOCOL, differs=STRICT["value"]),
    case("length-differs", OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi", PROTOCOL),
    case("length-list-differs", OK + b"Content-Length: 2, 3\r\n\r\nhi", PROTOCOL),
    case(
        "length-list-equal",
        OK + b"Content-Length: 2, 2\r\n\r\nhi",
        UP,
        differs="Go refuses the list RFC 9112 6.3 allows",
    ),
    case("length-negative", OK + b"Content-Length: -2\r\n\r\nhi", PROTOCOL),
    case("length-hex", OK + b"Content-Length: 0x2\r\n\r\nhi", PROTOCOL),
    case("length-plus", OK + b"Content-Length: +2\r\n\r\nhi", PROTOCOL),
    case("length-astronomic", OK + b"Content-Length: " + b"9" * 30 + b"\r\n\r\nhi", PROTOCOL),
    case("coding-unknown", OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", PROTOCOL),
    case("coding-identity", OK + b"Transfer-Encoding: identity\r\n\r\nhi", PROTOCOL),
    case(
        "chunks-in-1-0",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        PROTOCOL,
        differs=STRICT["framing"],
    ),
    case("chunk-size-words", OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhi\r\n0\r\n\r\n", PROTOCOL),
    case("chunk-size-negative", OK + b"Transfer-Encoding: chunked\r\n\r\n-2\r\nhi\r\n0\r\n\r\n", PROTOCOL),
    case("chunk-size-huge", OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 17 + b"\r\nhi", PROTOCOL),
    case("chunk-size-empty", OK + b"Transfer-Encoding: chunked\r\n\r\n\r\nhi", PROTOCOL),
    case("chunk-too-long", OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhixx\r\n0\r\n\r\n", PROTOCOL),
    case("chunk-line-endless", OK + b"Transfer-Encoding: chunked\r\n\r\n2;" + b"a" * 100_000, PROTOCOL),
    case("cut-chunk", OK + b"Transfer-Encoding: chunked\r\n\r\n9\r\nhi", CUT),
    case("cut-before-last-chunk", OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", CUT),
    case("cut-length", OK + b"Content-Length: 9\r\n\r\nhi", CUT),
    case("cut-at-body", OK + b"Content-Length: 9\r\n\r\n", CUT),
    case("interim-endless", drips(b"", b"HTTP/1.1 103 Hints\r\n\r\n", every_s=0), PROTOCOL),
    case("switching", b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "down status"),
)

HOSTILE = (
    case("header-endless", drips(OK, b"X-A: " + b"a" * 1000 + b"\r\n", every_s=0), TOO_LARGE),
    case("header-line-endless", drips(OK + b"X-A: ", b"a" * 4096, every_s=0), TOO_LARGE),
    case("header-100-kb", answer(b"x", b"X-A: " + b"a" * 100_000), TOO_LARGE, differs=LIMIT),
    case("body-endless", drips(OK + b"\r\n", b"a" * 65536, every_s=0), TOO_LARGE, options={"timeout": 3.0}),
    case(
        "chunks-endless",
        drips(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + b"a" * 4096 + b"\r\n", every_s=0),
        TOO_LARGE,
        options={"timeout": 3.0},
    ),
    case("body-2-mb", answer(b"a" * 2 * MEGABYTE), TOO_LARGE, differs=LIMIT),
    case("chunks-tiny", chunked(*[b"a"] * 10_000), UP),
    case("chunks-crumbs", chunked(*[b"a"] * 200_000), TOO_LARGE, differs=LIMIT),
    case("trailer-endless", drips(chunked(b"x")[:-2], b"X-A: b\r\n", every_s=0), TOO_LARGE),
    case("bomb-gzip", encoded(BOMB, b"gzip"), TOO_LARGE, differs=LIMIT),
    case("bomb-gzip-twice", encoded(gzip.compress(BOMB), b"gzip, gzip"), TOO_LARGE, differs=UNREAD),
    case(
        "bomb-deflate",
        encoded(zlib.compress(bytes(64 * MEGABYTE)), b"deflate"),
        TOO_LARGE,
        differs=UNREAD,
    ),
    case("hang", sends_and_hangs(), TIMEOUT, options=SHORT),
    case("hang-in-status", sends_and_hangs(b"HTTP/1.1 2"), TIMEOUT, options=SHORT),
    case("hang-in-header", sends_and_hangs(OK), TIMEOUT, options=SHORT),
    case("hang-in-body", sends_and_hangs(OK + b"Content-Length: 9\r\n\r\nhi"), TIMEOUT, options=SHORT),
    case("hang-in-chunk", sends_and_hangs(chunked(b"hello")[:-9]), TIMEOUT, options=SHORT),
    case("hang-close-delimited", sends_and_hangs(OK + b"\r\nhi"), TIMEOUT, options=SHORT),
    case("drip-header", drips(OK + b"X-A: ", b"a", every_s=0.05), TIMEOUT, options=SHORT),
    case(
        "drip-body", drips(OK + b"Content-Length: 99999\r\n\r\n", b"a", every_s=0.05), TIMEOUT, options=SHORT
    ),
    case("slow", sends(b"", answer(), pause_s=0.3), "degraded slow", options={"slower_than": 0.2}),
)

CODINGS = (
    case("gzip", encoded(gzip.compress(b"hello"), b"gzip"), UP),
    case("gzip-members", encoded(gzip.compress(b"hel") + gzip.compress(b"lo"), b"gzip"), UP),
    case("x-gzip", encoded(gzip.compress(b"hello"), b"x-gzip"), UP),
    case("gzip-empty", encoded(b"", b"gzip"), UP),
    case(
        "gzip-chunks", chunked(gzip.compress(b"hello")).replace(b"Tr", b"Content-Encoding: gzip\r\nTr", 1), UP
    ),
    case("deflate", encoded(zlib.compress(b"hello"), b"deflate"), UP),
    case("deflate-bare", encoded(raw_deflate(b"hello"), b"deflate"), UP),
    case("identity", encoded(b"hello", b"identity"), UP),
    case(
        "gzip-cut",
        encoded(gzip.compress(b"hello" * 100)[:-4], b"gzip"),
        DECODE,
        differs=UNREAD,
    ),
    case(
        "gzip-broken",
        encoded(gzip.compress(b"hello")[:12] + b"\xff" * 20, b"gzip"),
        DECODE,
        differs=UNREAD,
    ),
    case(
        "gzip-checksum",
        encoded(gzip.compress(b"hello")[:-8] + b"\0" * 8, b"gzip"),
        DECODE,
        differs=UNREAD,
    ),
    case("gzip-surplus", encoded(gzip.compress(b"hello") + b"junk", b"gzip"), DECODE, differs=UNREAD),
    case("gzip-is-plain", encoded(b"hello", b"gzip"), DECODE, differs=UNREAD),
    case("deflate-cut", encoded(zlib.compress(b"hello" * 99)[:-6], b"deflate"), DECODE, differs=UNREAD),
    case("brotli-unasked", encoded(b"\x0b\x02\x80hello\x03", b"br"), DECODE, differs=UNREAD),
    case("codings-many", encoded(b"x", b"gzip, gzip, gzip, gzip"), DECODE, differs=UNREAD),
)


def status(code: int) -> Behaviour:
    return sends(answer(start=b"HTTP/1.1 %d Some Phrase\r\n" % code))


STATUSES = (
    *(
        case(f"status-{code}", status(code), "down status")
        for code in (304, 400, 401, 403, 404, 418, 429, 500, 502, 503)
    ),
    case("status-599", status(599), "down status"),
    case("status-999", status(999), "down status"),
    case("redirect-nowhere", status(302), "down status"),
    case("status-206", status(206), UP),
    case("status-404-expected", status(404), UP, options={"expect": {"status": [404]}}),
    case("status-range", status(418), UP, options={"expect": {"status": ["400-420"]}}),
    case("status-not-range", status(200), "down status", options={"expect": {"status": ["4xx"]}}),
)


def to(location: str, code: int = 302) -> Behaviour:
    return sends(answer(b"", b"Location: " + location.encode(), start=b"HTTP/1.1 %d Found\r\n" % code))


async def _count_down(call: Call) -> None:
    left = int(call.path.rstrip("/").rpartition("/")[2])
    await (to(f"/count-down/{left - 1}") if left else sends(answer()))(call)


async def _method(call: Call) -> None:
    """Redirects once by the code in the path, then tells how it was asked."""
    code = call.path.rpartition("/")[2]
    if code.isdigit():
        await to("/method/then", int(code))(call)
    else:
        await sends(answer(f"{call.method} {call.body.decode()}".encode()))(call)


async def _private(call: Call) -> None:
    """First to another host, which must not get the credentials."""
    port = call.header("host").rpartition(":")[2]
    if call.path.endswith("/start"):
        await to(f"http://localhost:{port}/private/other")(call)
    elif call.path.endswith("/same"):
        await to("/private/needs")(call)
    else:
        wanted = call.path.endswith("/needs")
        sent = bool(call.header("authorization") or call.header("x-key"))
        await status(200 if sent == wanted else 403)(call)


async def _cookie(call: Call) -> None:
    """Lets in who brings back the cookie, as a log-in or a shop does."""
    if call.header("cookie") == "seen=yes":
        await sends(answer())(call)
    else:
        start = b"HTTP/1.1 302 Found\r\nSet-Cookie: seen=yes\r\n"
        await sends(answer(b"", b"Location: /cookie", start=start))(call)


POST = {"method": "POST", "body": "ping"}
KEY = {"headers": {"X-Key": "k"}, "auth": {"basic": {"username": "u", "password": "p"}}}

REDIRECTS = (
    case("redirect", to("/length"), UP),
    case("redirect-relative", to("../length"), UP),
    case("redirect-fragment", to("/length#part"), UP),
    case("redirect-permanent", to("/length", 308), UP),
    case("count-down", _count_down, UP, path="/5"),
    case("count-down-too-far", _count_down, "down redirect_limit", path="/11"),
    case("cookie", _cookie, UP),
    case("redirect-loop", to("/redirect-loop"), "down redirect_limit"),
    case("redirect-empty", to(""), "down redirect_limit"),
    case("redirect-file", to("file:///etc/passwd"), "down redirect_invalid"),
    case("redirect-ftp", to("ftp://127.0.0.1/"), "down redirect_invalid"),
    case("redirect-script", to("javascript:alert(1)"), "down redirect_invalid"),
    case("redirect-broken-host", to("http://[::1/"), "down redirect_invalid"),
    case("redirect-broken-port", to("http://127.0.0.1:99999/"), "down redirect_invalid"),
    case("redirect-closed-port", to("http://127.0.0.1:1/"), "down connection_refused"),
    case("redirect-refused", to("/length"), "down status", options={"redirects": 0}),
    case("redirect-wanted", to("/length"), UP, options={"redirects": 0, "expect": {"status": [302]}}),
    case("method", _method, UP, path="/307", options=POST | {"expect": {"body": ["^POST ping$"]}}),
    case("method-303", _method, UP, path="/303", options=POST | {"expect": {"body": ["^GET $"]}}),
    case("method-302", _method, UP, path="/302", options=POST | {"expect": {"body": ["^GET $"]}}),
    case(
        "private",
        _private,
        UP,
        path="/start",
        options=KEY,
        differs="it takes our headers along to the other host",
    ),
    case("private-same", _private, UP, path="/same", options=KEY),
)

_VALUES = b'{"status": "x", "items": [1, {"name": "b"}], "queue": {"depth": 7}, "on": true}'


def expecting(
    name: str, behaviour: Behaviour | bytes, verdict: str, *, differs: str = "", **expect: Any
) -> Case:
    return case(name, behaviour, verdict, options={"expect": expect, "health": "off"}, differs=differs)


NO_MATCH = "down body_match"
_NO_JSON = "it has no conditions on JSON"
CONDITIONS = (
    expecting("header", answer(b"", b"X-Version: 12"), UP, header={"X-Version": "^1"}),
    expecting("header-other", answer(b"", b"X-Version: 2"), "down header_match", header={"X-Version": "^1"}),
    expecting("header-missing", answer(), "down header_match", header={"X-Version": ".*"}),
    expecting("header-if-sent", answer(b"", b"X-Version: 12"), UP, header_if_sent={"X-Version": "^1"}),
    expecting("header-if-not-sent", answer(), UP, header_if_sent={"X-Version": "^1"}),
    expecting(
        "header-if-sent-other",
        answer(b"", b"X-Version: 2"),
        "down header_match",
        header_if_sent={"X-Version": "^1"},
    ),
    expecting("body", answer(b"all is well"), UP, body=["is well$"]),
    expecting("body-other", answer(b"all is lost"), NO_MATCH, body=["is well$"]),
    expecting("body-forbidden", answer(b"stack trace"), NO_MATCH, body_not=["trace"]),
    expecting("json-equal", answer(_VALUES), UP, json=['status == "x"', "on == true", "queue.depth < 8"]),
    expecting("json-length", answer(_VALUES), UP, json=["len(items) >= 2", 'items[1].name ~ "^b"']),
    expecting("json-differs", answer(_VALUES), NO_MATCH, differs=_NO_JSON, json=["queue.depth < 7"]),
    expecting("json-missing", answer(_VALUES), NO_MATCH, differs=_NO_JSON, json=["queue.age exists"]),
    expecting("json-not", answer(b"<html>"), NO_MATCH, differs=_NO_JSON, json=["a exists"]),
)

SICK = "down health_document"
_ASPNET = (
    b'{"status":"Unhealthy","totalDuration":"0","entries":{"db":{"status":"Unhealthy","description":"x"}}}'
)
_PLAIN = b'{"status":"degraded","services":{"auth":"healthy"},"database":{"status":"unhealthy"}}'
_LISTED = b'{"status":"healthy","nats_connected":false}'
_BLIND = "it does not read health documents"
HEALTH = (
    case("health-pass", json(b'{"status":"pass"}', kind=b"application/health+json"), UP),
    case("health-warn", json(b'{"status":"warn"}'), "degraded health_document"),
    case("health-fail-200", json(b'{"status":"fail"}'), SICK, differs=_BLIND),
    case("health-fail-503", json(b'{"status":"fail"}', b"503 Service Unavailable"), SICK),
    case("health-pass-503", json(b'{"status":"pass"}', b"503 No"), "degraded contradiction", differs=_BLIND),
    case(
        "health-actuator",
        json(b'{"status":"DOWN","components":{"db":{"status":"DOWN"}}}'),
        SICK,
        differs=_BLIND,
    ),
    case("health-actuator-up", json(b'{"status":"UP","components":{"db":{"status":"UP"}}}'), UP),
    case(
        "health-microprofile",
        json(b'{"status":"DOWN","checks":[{"name":"db","status":"DOWN"}]}'),
        SICK,
        differs=_BLIND,
    ),
    case("health-aspnet", json(_ASPNET), SICK, differs=_BLIND),
    case("health-plain", json(_PLAIN), "degraded health_document"),
    case("health-lists-down", json(_LISTED), "degraded health_document"),
    case("health-starting", json(b'{"status":"starting"}', b"503 No"), "starting starting"),
    case("health-bom", json(b'\xef\xbb\xbf{"status":"pass"}'), UP),
    case("health-no-document", answer(b"fine"), SICK, options={"health": "require"}, differs=_BLIND),
    case("health-broken-json", json(b'{"status":"fail"'), UP),
    case("health-other-json", json(b'{"user":"x"}'), UP),
)


async def _login(call: Call) -> None:
    sent = call.header("authorization")
    if call.path.endswith("/token"):
        good = sent == "Basic aWQ6cyUyRnQ=" and b"grant_type=client_credentials" in call.body
        body = b'{"access_token": "fresh", "expires_in": "60"}' if good else b"{}"
        await sends(answer(body, start=b"HTTP/1.1 200 OK\r\n" if good else b"HTTP/1.1 401 No\r\n"))(call)
    else:
        await status(200 if sent in ("Bearer fresh", "Basic dTpw") else 401)(call)


def logging_in(name: str, verdict: str, auth: dict[str, Any]) -> Case:
    return case(name, _login, verdict, options={"auth": auth})


def oauth2(secret: str) -> dict[str, Any]:
    return {
        "oauth2": {
            "token_url": "http://127.0.0.1:{port}/login/token",
            "client_id": "id",
            "client_secret": secret,
        }
    }


LOGINS = (
    logging_in("login", UP, {"basic": {"username": "u", "password": "p"}}),
    logging_in("login-wrong", "down status", {"basic": {"username": "u", "password": "q"}}),
    logging_in("login-bearer", UP, {"bearer": "fresh"}),
    logging_in("login-oauth2", UP, oauth2("s/t")),
    logging_in("login-oauth2-wrong", "unknown config", oauth2("wrong")),
    logging_in("login-no-file", "unknown config", {"bearer_file": "/nonexistent/token"}),
)

CASES = FRAMING + HOSTILE + CODINGS + STATUSES + REDIRECTS + CONDITIONS + HEALTH + LOGINS
BEHAVIOURS = {one.name: one.behaviour for one in CASES}
