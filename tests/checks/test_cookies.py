"""Cookies along redirects go where they belong and nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks.http.cookies import Cookies
from checks.http.request import request_of

NOW_S = 1_700_000_000.0


def sent(set_cookie: list[str], url: str, *, at: str = "https://a.shop.test/login/form") -> str:
    cookies = Cookies()
    fields = [("content-type", "text/html"), *(("set-cookie", text) for text in set_cookie)]
    cookies.take(request_of(at), fields, now_s=NOW_S)
    return cookies.line(request_of(url)).decode("latin-1")


CASES = (
    ("the same place", ["a=1"], "https://a.shop.test/login/form", "cookie: a=1\r\n"),
    ("below", ["a=1"], "https://a.shop.test/login/more/x", "cookie: a=1\r\n"),
    ("beside", ["a=1"], "https://a.shop.test/other", ""),
    ("no part of a word", ["a=1; Path=/log"], "https://a.shop.test/login", ""),
    ("everywhere", ["a=1; Path=/"], "https://a.shop.test/other?x", "cookie: a=1\r\n"),
    ("another host", ["a=1; Path=/"], "https://b.shop.test/", ""),
    ("its domain", ["a=1; Path=/; Domain=.shop.test"], "https://b.shop.test/", "cookie: a=1\r\n"),
    ("a foreign domain", ["a=1; Path=/; Domain=bank.test"], "https://bank.test/", ""),
    ("a whole top level", ["a=1; Path=/; Domain=test"], "https://b.test/", ""),
    ("secure over plain", ["a=1; Path=/; Secure"], "http://a.shop.test/", ""),
    ("replaced", ["a=1; Path=/", "a=2; Path=/"], "https://a.shop.test/", "cookie: a=2\r\n"),
    ("taken away", ["a=1; Path=/", "a=; Path=/; Max-Age=0"], "https://a.shop.test/", ""),
    (
        "expired",
        ["a=1; Path=/; Expires=Wed, 21 Oct 2015 07:28:00 GMT"],
        "https://a.shop.test/",
        "",
    ),
    ("lasting", ["a=1; Path=/; Max-Age=60; Expires=bad"], "https://a.shop.test/", "cookie: a=1\r\n"),
    (
        "longer paths first",
        ["a=1; Path=/", "b=2; Path=/login"],
        "https://a.shop.test/login",
        "cookie: b=2; a=1\r\n",
    ),
    ("no pair", ["nonsense", "=x", "a\x01=b"], "https://a.shop.test/login/form", ""),
)


@pytest.mark.parametrize(
    ("given_", "url", "line"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_a_cookie_goes_where_it_belongs(given_: list[str], url: str, line: str) -> None:
    assert sent(given_, url) == line


def test_a_cookie_of_an_address_stays_there() -> None:
    assert sent(["a=1; Path=/; Domain=0.0.1"], "http://127.0.0.1/", at="http://127.0.0.1/") == ""
    assert sent(["a=1; Path=/"], "http://127.0.0.1/x", at="http://127.0.0.1/") == "cookie: a=1\r\n"


def test_a_cookie_header_of_the_users_own_is_left_alone() -> None:
    cookies = Cookies()
    cookies.take(request_of("http://a.test/"), [("set-cookie", "a=1")], now_s=NOW_S)
    assert cookies.line(request_of("http://a.test/", private=(("Cookie", "mine=1"),))) == b""


def test_a_flood_is_capped() -> None:
    many = [f"c{number}=x; Path=/" for number in range(1000)] + ["long=" + "x" * 5000]
    assert sent(many, "https://a.shop.test/").count("=") == 50


@given(st.lists(st.text(max_size=80), max_size=5))
def test_no_header_line_can_be_smuggled_in(texts: list[str]) -> None:
    line = sent(texts, "https://a.shop.test/login/form")
    assert line.count("\r\n") == (1 if line else 0)
    assert "\n" not in line[:-2]
