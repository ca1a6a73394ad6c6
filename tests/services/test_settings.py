"""Settings: the strategy's defaults, and one sentence for each mistake."""

from __future__ import annotations

import subprocess
import sys

import pytest

from services.instrumentation.launch import launch
from services.instrumentation.settings import Environment, Settings, SettingsError
from tests.services.running import environment


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("development", (Environment.DEVELOPMENT, "DEBUG", 30.0, 1.0, "gaia.dev")),
        ("stg", (Environment.STAGING, "INFO", 15.0, 0.5, "gaia.staging")),
        ("prod", (Environment.PRODUCTION, "WARNING", 10.0, 0.1, "gaia.prod")),
    ],
)
def test_each_environment_has_the_strategys_defaults(name: str, expected: tuple[object, ...]) -> None:
    s = Settings.from_environment("auth", {"ENVIRONMENT": name})
    assert (s.environment, s.log_level, s.check_interval_s, s.trace_ratio, s.nats_namespace) == expected


def test_scenario_20_two_seconds_is_a_bucket_edge_and_so_is_every_threshold() -> None:
    assert 2.0 in Settings.from_environment("auth", {}).buckets_s
    s = Settings.from_environment("auth", {"LATENCY_THRESHOLDS": "2s,300ms"})
    assert {0.3, 2.0} <= set(s.buckets_s)


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"ENVIRONMENT": "live"}, 'ENVIRONMENT: "live" is none of development, staging, production'),
        ({"PORT": "http"}, 'PORT: "http" is not a whole number'),
        ({"LOG_LEVEL": "loud"}, 'LOG_LEVEL: "loud" is none of DEBUG, INFO, WARNING, ERROR, CRITICAL'),
        (
            {"HEALTH_CHECK_INTERVAL": "soon"},
            'HEALTH_CHECK_INTERVAL: "soon" is not a duration: write 10s, 250ms or 5m',
        ),
        ({"OTEL_TRACES_SAMPLER_ARG": "7"}, 'OTEL_TRACES_SAMPLER_ARG: "7" is not a ratio between 0 and 1'),
        ({"GAIA_DEVELOPER": "a.b"}, 'GAIA_DEVELOPER: "a.b" may only hold letters, digits, "-" and "_"'),
        (
            {"LATENCY_BUCKETS": "1s,5s"},
            (
                "LATENCY_BUCKETS: the threshold 2s of LATENCY_THRESHOLDS is no bucket edge: "
                "add 2s to LATENCY_BUCKETS"
            ),
        ),
        (
            {"GAIA_FAULTS": "1", "ENVIRONMENT": "production"},
            "GAIA_FAULTS: refused in production and on Fly.io: unset it, or set ENVIRONMENT=development",
        ),
        (
            {"GAIA_FAULTS": "1", "FLY_APP_NAME": "gaia-auth-dev"},
            "GAIA_FAULTS: refused in production and on Fly.io: unset it, or set ENVIRONMENT=development",
        ),
        (
            {"ENVIRONMENT": "production", "API_KEY": "gaia_dev_abcdefabcdef_" + "0" * 38},
            "API_KEY: is a key of another environment: make one for production",
        ),
    ],
)
def test_a_wrong_variable_is_one_sentence(environ: dict[str, str], sentence: str) -> None:
    with pytest.raises(SettingsError) as error:
        Settings.from_environment("auth", environ)
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    ("environ", "field", "value"),
    [
        ({"LOG_LEVEL": "error"}, "log_level", "ERROR"),
        ({"LOG_FORMAT": "text"}, "log_format", "text"),
        ({"OTEL_TRACES_SAMPLER_ARG": "0.25"}, "trace_ratio", 0.25),
        ({"HEALTH_CHECK_INTERVAL": "2m"}, "check_interval_s", 120.0),
        ({"DATABASE_POOL_MAX": "3"}, "pool_max", 3),
        ({"ENVIRONMENT": "production", "DATABASE_POOL_MAX": "1"}, "pool_min", 1),
        ({"DATABASE_POOLED": "true"}, "database_pooled", True),
        ({"GAIA_DEVELOPER": "ada"}, "nats_namespace", "gaia.dev.ada"),
        ({"ENVIRONMENT": "staging", "GAIA_DEVELOPER": "ada"}, "nats_namespace", "gaia.staging"),
        ({"ENVIRONMENT": "production", "FLY_APP_NAME": "gaia-chat-prod"}, "nats_replicas", 3),
        ({"ENVIRONMENT": "production", "NATS_REPLICAS": "5"}, "nats_replicas", 5),
        ({"ENVIRONMENT": "staging", "FLY_APP_NAME": "gaia-chat-staging"}, "nats_replicas", 1),
        ({"TLS_CERT_FILE": "/c", "TLS_KEY_FILE": "/k"}, "tls_cert", "/c"),
        ({"DRAIN_DELAY": "3s"}, "drain_delay_s", 3.0),
        ({"FLY_APP_NAME": "gaia-chat-dev"}, "drain_delay_s", 5.0),
        ({"HEADER_TIMEOUT": "2s"}, "header_timeout_s", 2.0),
        ({"FLY_MACHINE_ID": "148e"}, "instance_id", "148e"),
    ],
    ids=str,
)
def test_each_variable_does_what_it_says(environ: dict[str, str], field: str, value: object) -> None:
    assert getattr(Settings.from_environment("chat", environ), field) == value


@pytest.mark.parametrize("flag", ["1", "true", "yes", "on", "TRUE"])
@pytest.mark.parametrize(
    "where", [{"ENVIRONMENT": "production"}, {"ENVIRONMENT": "prod"}, {"FLY_APP_NAME": "x"}]
)
def test_no_spelling_arms_the_fault_switch_in_production(flag: str, where: dict[str, str]) -> None:
    assert not Settings.from_environment("chat", where).faults
    with pytest.raises(SettingsError, match="GAIA_FAULTS: refused"):
        Settings.from_environment("chat", {**where, "GAIA_FAULTS": flag})


def test_a_wrong_variable_ends_the_process_with_3_and_the_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = launch("auth", {"PORT": "http"}, lambda _kit: pytest.fail("built"))
    assert (code, capsys.readouterr().err) == (3, 'auth: PORT: "http" is not a whole number\n')


def test_the_fault_switch_is_refused_in_production_before_anything_listens() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services.gateway"],
        env=environment(ENVIRONMENT="production", GAIA_FAULTS="1"),
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 3
    assert done.stderr.startswith(b"gateway: GAIA_FAULTS: refused in production")
