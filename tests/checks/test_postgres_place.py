"""How a PostgreSQL URL is read."""

from __future__ import annotations

import getpass
import ssl

import pytest

from checks.postgres.place import parse_url
from checks.secret import Secret


@pytest.mark.parametrize(
    ("url", "shown", "user", "password", "tls"),
    [
        ("postgresql://u:p@db:5433/app", "db:5433/app", "u", "p", "prefer"),
        ("postgres://u@db/app", "db:5432/app", "u", "", "prefer"),
        ("postgresql://u:p%40ss@db/app?sslmode=require", "db:5432/app", "u", "p@ss", "require"),
        ("postgresql://u@db", "db:5432/u", "u", "", "prefer"),
        ("postgresql://u:p@[fdaa::3]:5433/app", "[fdaa::3]:5433/app", "u", "p", "prefer"),
        ("postgresql://u@/app?host=/run/pg&port=6543", "/run/pg/.s.PGSQL.6543/app", "u", "", "disable"),
        ("postgresql://u@%2Frun%2FPG:5433/app", "/run/PG/.s.PGSQL.5433/app", "u", "", "disable"),
        ("postgresql://db/app?user=u&password=p&sslmode=allow", "db:5432/app", "u", "p", "prefer"),
    ],
)
def test_a_url_is_read_as_libpq_does(url: str, shown: str, user: str, password: str, tls: str) -> None:
    place = parse_url(Secret(url))
    assert (place.shown, place.user, place.password.reveal(), place.tls) == (shown, user, password, tls)
    assert "p@ss" not in repr(place)


def test_nobody_named_is_the_user_we_run_as() -> None:
    place = parse_url(Secret("postgresql://db"))
    assert (place.user, place.database) == (getpass.getuser(), getpass.getuser())


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://u:secret@db", 'not "mysql://"'),
        ("postgresql://u:secret@db:none/app", "the port"),
        ("postgresql://u:secret@db/app?sslmode=maybe", 'sslmode "maybe"'),
    ],
)
def test_a_url_that_cannot_be_read_says_why_and_no_secret(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("(", r"\(")) as raised:
        parse_url(Secret(url))
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("mode", "verified", "named"),
    [
        ("prefer", ssl.CERT_NONE, False),
        ("require", ssl.CERT_NONE, False),
        ("verify-ca", ssl.CERT_REQUIRED, False),
        ("verify-full", ssl.CERT_REQUIRED, True),
    ],
)
def test_a_mode_verifies_what_its_name_says(mode: str, verified: ssl.VerifyMode, *, named: bool) -> None:
    context = parse_url(Secret(f"postgresql://u@db/app?sslmode={mode}")).tls_context()
    assert (context.verify_mode, context.check_hostname) == (verified, named)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
