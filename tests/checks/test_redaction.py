"""What a target says is shown short, printable, and without secrets, however it is cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.wire.redaction import Redactor, redacted


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'{"password": "hunter2", "user": "me"}', '{"password": ***, "user": "me"}'),
        (b"api_key=abc123&page=2", "api_key=***&page=2"),
        (b"postgres://me:pw@db/x", "postgres://***@db/x"),
        (b"Authorization: Bearer abcdefghijk\nHost: a", "Authorization: *** Host: a"),
        (b'{"authorization": "Token abc def", "a": 1}', '{"authorization": ***, "a": 1}'),
        (b"proxy-authorization=Negotiate YII==", "proxy-authorization=***"),
        (b"sent bearer abcdefghijk and left", "sent bearer *** and left"),
        (b"a\x1b[2Jb\x00c\nd", "a [2Jb c d"),
        ("\u202eevil\u200b".encode(), "evil"),
    ],
)
def test_an_excerpt_is_printable_and_without_what_looks_like_a_secret(body: bytes, shown: str) -> None:
    assert redacted(body) == shown


@settings(deadline=None)  # a busy machine is no finding
@given(st.binary(max_size=2000))
def test_any_body_gives_one_short_printable_line(body: bytes) -> None:
    excerpt = redacted(body)
    assert len(excerpt) <= 400
    assert excerpt.isprintable()


SECRETS = st.text(alphabet="abcXYZ019-_", min_size=4, max_size=12)


@settings(deadline=None)  # a busy machine is no finding
@given(st.lists(SECRETS, min_size=1, max_size=4), st.text(alphabet="abcXYZ019-_ .", max_size=40), st.data())
def test_no_known_secret_survives_wherever_it_stands(
    secrets: list[str], text: str, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(text)))
    secret = data.draw(st.sampled_from(secrets))
    shown = Redactor(secrets).text(text[:place] + secret + text[place:])
    assert not any(one in shown for one in secrets)
