"""Whatever stands in a blackbox.yml: each module is usable as a whole or refused in one sentence."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.blackbox_modules import options_for, parse_modules, place_of

KEYS: dict[str, tuple[str, ...]] = {
    "": ("prober", "timeout", "http", "tcp", "dns", "icmp", "histogram"),
    "http": (
        "valid_status_codes", "valid_http_versions", "method", "headers", "no_follow_redirects",
        "follow_redirects", "fail_if_ssl", "fail_if_not_ssl", "fail_if_body_matches_regexp",
        "fail_if_body_not_matches_regexp", "fail_if_header_matches", "fail_if_header_not_matches",
        "tls_config", "basic_auth", "authorization", "bearer_token", "bearer_token_file", "oauth2",
        "preferred_ip_protocol", "ip_protocol_fallback", "body", "body_size_limit", "compression",
        "proxy_url", "enable_http2",
    ),
    "tcp": ("query_response", "tls", "tls_config", "preferred_ip_protocol", "source_ip_address"),
    "dns": (
        "query_name", "query_type", "query_class", "transport_protocol", "recursion_desired",
        "valid_rcodes", "validate_answer_rrs", "validate_authority_rrs", "validate_additional_rrs",
        "preferred_ip_protocol", "dns_over_tls",
    ),
}  # fmt: skip
INNER = (
    "header", "regexp", "allow_missing", "username", "password", "password_file", "type", "credentials",
    "client_id", "client_secret", "token_url", "scopes", "ca_file", "insecure_skip_verify", "server_name",
    "min_version", "expect", "send", "starttls", "fail_if_matches_regexp", "fail_if_not_matches_regexp",
    "fail_if_all_match_regexp", "fail_if_none_matches_regexp", "X-A",
)  # fmt: skip
WORDS = st.sampled_from(
    ["http", "tcp", "dns", "icmp", "GET", "ip4", "ip6", "5s", "10MB", "TLS12", "a.test", "A", "ANY", "200",
     "NOERROR", "^a.*$", "(", "[[:alpha:]]", r"\d+\z", "$1${name}$$", "(?P<name>a)", "http://t.test/", "udp"]
)  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers(-5, 700) | st.floats(allow_nan=False) | WORDS | st.text()
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(INNER), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def module(draw: st.DrawFn) -> Any:
    """Mostly the shape of a module, with anything in its places."""
    prober = draw(st.sampled_from(["http", "tcp", "dns"]))
    keys = st.sampled_from(KEYS[prober]) | st.text(max_size=5)
    table: dict[str, Any] = {
        "prober": prober,
        prober: draw(st.dictionaries(keys, VALUES, max_size=5) | VALUES),
    }
    return table | draw(st.dictionaries(st.sampled_from(KEYS[""]), VALUES, max_size=2))


@settings(deadline=None)  # a busy machine is no finding
@given(st.dictionaries(st.text(max_size=4), module() | VALUES, max_size=4) | VALUES)
def test_any_file_gives_usable_modules_and_sentences(modules: Any) -> None:
    found = parse_modules({"modules": modules})
    names = {str(name) for name in modules} if isinstance(modules, dict) else set()
    assert set(found.usable) | set(found.problems) == names
    assert not set(found.usable) & set(found.problems)
    assert all("\n" not in problem for problem in found.problems.values())
    for one in found.usable.values():
        options = options_for(one, "a.test:1", timeout_s=1.0, hostname=None)
        assert place_of(one, "a.test:1") == ("a.test", 1)
        assert msgspec.structs.asdict(options)


@settings(deadline=None)  # a busy machine is no finding
@given(st.text(max_size=60), st.sampled_from(["http", "tcp", "dns"]), st.none() | st.text(max_size=20))
def test_any_target_is_one_or_a_value_error(target: str, prober: str, hostname: str | None) -> None:
    own = {"query_name": "a.test"} if prober == "dns" else {}
    (one,) = parse_modules({"m": {"prober": prober, prober: own}}).usable.values()
    try:
        place_of(one, target)
        options_for(one, target, timeout_s=1.0, hostname=hostname)
    except ValueError:
        return


@pytest.mark.parametrize(
    "host", ["a..b", "x" * 64 + ".test", "x." * 130 + "test", "ü" + "x" * 70, "[::g]", "[fe80::1"]
)
def test_what_is_no_host_cannot_be_asked(host: str) -> None:
    (one,) = parse_modules({"m": {"prober": "http"}}).usable.values()
    with pytest.raises(ValueError, match=r"no host name|no URL|valid|appear"):
        options_for(one, f"http://{host}/", timeout_s=1.0)


@pytest.mark.parametrize(
    ("target", "place"),
    [
        ("a.test", ("a.test", 80)),
        ("https://a.test/x", ("a.test", 443)),
        ("https://[::1]:8443/", ("::1", 8443)),
        ("http://me:pw@a.test:8080/", ("a.test", 8080)),
    ],
)
def test_a_targets_place_is_what_would_be_reached(target: str, place: tuple[str, int]) -> None:
    (one,) = parse_modules({"m": {"prober": "http"}}).usable.values()
    assert place_of(one, target) == place
