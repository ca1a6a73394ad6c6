"""What a right file becomes: defaults, overrides, variables, overlays, and where a service is probed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from agent.platform.model import Backups, CheckSpec, MachineSize
from agent.platform.problem import PlatformError
from agent.platform.scope import Scope
from alerts.rule import DEFAULT_POLICIES, DEFAULT_RULES, Severity, TargetStateRule
from checks.backups import BackupsOptions
from checks.http.options import HttpOptions
from checks.machines.options import MachinesOptions
from checks.postgres.options import PostgresOptions
from checks.secret import Secret
from checks.units import Duration, Size
from tests.agent.platform.files import loaded

TEN_LINES = """\
platform: shop
environments:
  production: {}
services:
  web: {url: "https://shop.example", health: /healthz}
databases:
  main: {url: "postgresql://127.0.0.1/shop"}
brokers:
  bus: {url: "nats://127.0.0.1:4222"}
"""


def test_ten_lines_are_enough_and_everything_else_has_a_default(tmp_path: Path) -> None:
    platform = loaded(tmp_path, TEN_LINES)
    scope = platform.scope("production")
    web = scope.services["web"]
    assert platform.warnings == ()
    assert (web.interval, web.timeout, web.slower_than) == (Duration(10), Duration(5), Duration(2))
    assert [(way.name, way.options) for way in web.vantages] == [
        ("public", HttpOptions(url="https://shop.example/healthz", timeout=Duration(5)))
    ]
    assert scope.databases["main"].url == Secret("postgresql://127.0.0.1/shop")
    assert scope.brokers["bus"].url == Secret("nats://127.0.0.1:4222")
    assert scope.environment.alias == "production"
    assert dict(scope.rules) == {name: DEFAULT_RULES[name] for name in DEFAULT_POLICIES["comprehensive"]}


@pytest.mark.parametrize(("interval", "timeout"), [("30s", 5), ("10s", 5), ("5s", 4), ("1s", 0.8)], ids=str)
def test_a_timeout_is_five_seconds_or_four_fifths_of_the_interval(
    tmp_path: Path, interval: str, timeout: float
) -> None:
    text = f"platform: p\nenvironments: {{e: {{check_interval: {interval}}}}}\nservices: {{s: {{url: 'http://s'}}}}\n"
    assert loaded(tmp_path, text).scope("e").services["s"].timeout == pytest.approx(timeout)


def test_any_key_may_be_overridden_for_one_environment(tmp_path: Path) -> None:
    text = """\
platform: shop
environments: {staging: {alerts: basic}, production: {}}
services:
  web:
    url: http://web-{env}
    http: {expect: {status: [200]}}
    environments:
      staging: {interval: 20s, url: http://other, http: {expect: {status: [204]}}}
databases:
  main:
    url: postgresql://h/d
    heartbeat: 2s
    environments: {production: {topology: ha, standbys: 2, heartbeat: 500ms, backups: {every: 6h}}}
alerts:
  receivers: {me: {console: {}}}
  policies: {basic: [down], comprehensive: [down]}
  rules:
    down: {signal: target_state, environments: {staging: {for: 30s, severity: chat}}}
"""
    platform = loaded(tmp_path, text)
    staging, production = platform.scope("staging"), platform.scope("production")
    ways = [
        (
            scope.services["web"].interval,
            [(way.url, way.options.expect.status) for way in scope.services["web"].vantages],
        )
        for scope in (staging, production)
    ]
    assert ways == [
        (Duration(20), [("http://other", (204,))]),
        (Duration(10), [("http://web-production", (200,))]),
    ]
    main = production.databases["main"]
    assert (main.topology, main.standbys, main.backups) == ("ha", 2, Backups(every=Duration(6 * 3600)))
    assert [_postgres(scope, "main").heartbeat for scope in (staging, production)] == [
        2,
        0.5,
    ]
    assert [scope.rules["down"] for scope in (staging, production)] == [
        TargetStateRule(for_=Duration(30), severity=Severity.CHAT),
        TargetStateRule(),
    ]


def test_an_empty_policy_judges_everything_and_calls_nobody(tmp_path: Path) -> None:
    text = TEN_LINES.replace("production: {}", "production: {alerts: none}")
    scope = loaded(tmp_path, text).scope("production")
    assert set(scope.rules) == set(DEFAULT_RULES)
    assert {rule.severity for rule in scope.rules.values()} == {Severity.LOG}
    assert scope.receivers == {}


def test_variables_and_the_alias_are_expanded_once(tmp_path: Path) -> None:
    text = """\
platform: p
environments: {production: {alias: prod}}
services:
  a: {url: "http://${HOST}-{env}:${PORT:-8080}/x"}
databases:
  d: {url: "${URL}", app: "$${URL}"}
agent: {otlp_listen: ${NONE:-}}
"""
    with pytest.raises(PlatformError, match="needs quotes"):
        loaded(tmp_path, text)
    text = text.replace("${NONE:-}", '"127.0.0.1:${OTLP:-4318}"')
    environ = {"HOST": "h${PORT}", "URL": "postgresql://u:{env}${HOST}@h/d"}
    scope = loaded(tmp_path, text, environ=environ).scope("production")
    assert scope.services["a"].url == "http://h${PORT}-prod:8080/x"
    assert scope.databases["d"].url == Secret("postgresql://u:{env}${HOST}@h/d")
    assert scope.databases["d"].app == "${URL}"
    assert scope.agent.otlp_listen == "127.0.0.1:4318"


def test_a_plain_variable_may_stand_for_a_number_or_a_quantity(tmp_path: Path) -> None:
    text = """\
platform: p
environments:
  e:
    check_interval: ${EVERY}
    machines: {min: "${MIN}"}
"""
    scope = loaded(tmp_path, text, environ={"EVERY": "20s", "MIN": "1"}).scope("e")
    assert scope.environment.machines is not None
    assert (scope.environment.check_interval, scope.environment.machines.min) == (Duration(20), 1)


UNSET = """\
platform: p
environments: {dev: {alias: d, alerts: none}, prod: {}}
databases: {d: {url: "${D}"}}
alerts:
  receivers: {me: {notify: ["${ME}"]}}
"""


def test_an_unset_variable_is_a_mistake_of_the_environment_that_is_run(tmp_path: Path) -> None:
    platform = loaded(tmp_path, UNSET, environ={"D": "postgresql://h/d", "ME": ""})
    assert platform.scope("dev").databases["d"].url == Secret("postgresql://h/d")
    with pytest.raises(PlatformError) as caught:
        platform.scope("prod")
    assert (
        str(caught.value)
        == f"{tmp_path}/gaia.yaml:5:29: error: ${{ME}} is not set; environment prod needs it"
    )
    assert platform.scope("prod", calls=False).receivers == {}


def test_an_environment_is_found_by_its_alias_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    platform = loaded(tmp_path, UNSET, environ={"D": "postgresql://h/d"})
    assert platform.scope("d").environment_name == "dev"
    with pytest.raises(PlatformError, match='no environment "prd"; defined: dev, prod; did you mean "prod"'):
        platform.scope("prd")


def test_receivers_serve_the_environments_they_name(tmp_path: Path) -> None:
    text = """\
platform: p
environments: {staging: {}, production: {}}
alerts:
  receivers:
    all: {console: {}}
    night: {notify: ["${NIGHT}"], environments: [production]}
"""
    platform = loaded(tmp_path, text, environ={})
    assert list(platform.scope("staging").receivers) == ["all"]
    assert [problem.environment for problem in platform.unset_in("production")] == ["production"]


def test_an_overlay_wins_key_by_key_and_null_takes_away(tmp_path: Path) -> None:
    below = """\
platform: p
environments: {production: {alias: prod}}
services:
  web:
    url: https://web-{env}.fly.dev
    internal_url: http://web-{env}.flycast
    app: web
    environments: {production: {timeout: 3s, url: https://www.example, http: {method: HEAD}}}
databases:
  d: {url: "${D}", environments: {production: {standbys: 2, canary: 30s}}}
alerts:
  receivers: {on_call: {notify: ["${ONCALL}"]}}
"""
    above = """\
services:
  web: {url: "http://127.0.0.1:1", internal_url: null}
databases:
  d: {url: "postgresql://127.0.0.1:2/d", environments: {production: {standbys: null, app: null}}}
alerts:
  receivers: {on_call: null, console: {console: {}}}
"""
    scope = loaded(tmp_path, below, overlay=above).scope("production")
    web = scope.services["web"]
    assert (web.url, web.internal_url, web.app, web.timeout) == (
        "http://127.0.0.1:1",
        None,
        "web",
        Duration(3),
    )
    assert [way.options.method for way in web.vantages] == ["HEAD"]
    assert scope.databases["d"].standbys is None
    assert _postgres(scope, "d").canary == Duration(30)
    assert list(scope.receivers) == ["console"]


def test_a_null_in_an_overlay_takes_away_what_holds_for_all_environments(tmp_path: Path) -> None:
    below = (
        "platform: p\nenvironments: {e: {}}\ndatabases: {d: {url: 'postgresql://h/d', app: a, standbys: 1}}\n"
    )
    above = "databases: {d: {environments: {e: {app: null, standbys: null}}}}\n"
    database = loaded(tmp_path, below, overlay=above).scope("e").databases["d"]
    assert (database.app, database.standbys) == (None, None)


def test_a_mistake_in_an_overlay_is_placed_in_the_overlay(tmp_path: Path) -> None:
    with pytest.raises(PlatformError) as caught:
        loaded(tmp_path, TEN_LINES, overlay="services:\n  web: {timout: 1s}\n")
    assert str(caught.value).startswith(f'{tmp_path}/overlay.yaml:2:9: error: unknown key "timout"')


SLEEPERS = """\
platform: p
environments:
  dev: {machines: {auto_stop: stop, min: 0}}
  prod: {machines: {min: 2, max: 3}}
services:
  web:
    url: https://web-{env}.fly.dev
    internal_url: http://web-{env}.flycast
    probe: [public, internal]
"""


def test_nothing_that_may_sleep_is_probed_through_the_proxy_that_would_wake_it(tmp_path: Path) -> None:
    platform = loaded(tmp_path, SLEEPERS)
    dev, prod = (platform.scope(name).services["web"] for name in ("dev", "prod"))
    assert (dev.asleep_allowed, dev.app, dev.vantages) == (True, "web-dev", ())
    assert [(way.name, way.url) for way in prod.vantages] == [
        ("public", "https://web-prod.fly.dev"),
        ("internal", "http://web-prod.flycast"),
    ]


def test_the_machines_of_an_app_are_looked_after_with_no_request_to_it(tmp_path: Path) -> None:
    text = SLEEPERS + "agent: {fly_token: '${TOKEN:-}'}\n"
    check = loaded(tmp_path, text, environ={"TOKEN": "t"}).scope("dev").services["web"].checks["machines"]
    assert check == CheckSpec(
        name="machines",
        kind="machines",
        interval=Duration(10),
        timeout=Duration(5),
        options=MachinesOptions(app="web-dev", minimum=0, token=Secret("t"), start_within=Duration(30)),
    )
    assert loaded(tmp_path, TEN_LINES).scope("production").services["web"].checks == {}


def test_backups_are_looked_after_where_their_catalogue_is_known(tmp_path: Path) -> None:
    text = """\
platform: p
environments: {e: {}}
databases:
  d: {url: postgresql://h/d, backups: {every: 6h, keep: 7d, encrypted: false, catalogue: /c.json}}
"""
    check = loaded(tmp_path, text).scope("e").databases["d"].checks["backups"]
    assert (check.kind, check.interval) == ("backups", Duration(60))
    assert check.options == BackupsOptions(
        catalogue="/c.json", database="d", every=Duration(6 * 3600), keep=Duration(7 * 86400)
    )


def test_https_is_asked_for_in_the_version_that_security_wants(tmp_path: Path) -> None:
    text = TEN_LINES + "security: {tls_min_version: '1.3'}\n"
    (way,) = loaded(tmp_path, text).scope("production").services["web"].vantages
    assert way.options.tls.min_version == "1.3"


def test_a_sleeper_is_probed_when_it_may_be_woken_or_is_no_longer_behind_the_proxy(tmp_path: Path) -> None:
    awake = loaded(tmp_path, SLEEPERS + "    wake: true\n").scope("dev").services["web"]
    assert [way.name for way in awake.vantages] == ["public", "internal"]
    local = loaded(
        tmp_path,
        SLEEPERS,
        overlay="services: {web: {url: 'http://127.0.0.1:1', internal_url: null, probe: null}}",
    )
    assert [way.url for way in local.scope("dev").services["web"].vantages] == ["http://127.0.0.1:1"]


def test_single_instances_are_probed_each_on_its_own(tmp_path: Path) -> None:
    text = "platform: p\nenvironments: {e: {}}\nservices: {s: {instances: ['http://a:1', 'http://a:2']}}\n"
    ways = loaded(tmp_path, text).scope("e").services["s"].vantages
    assert [(way.name, way.options.url) for way in ways] == [
        ("instance_1", "http://a:1/health"),
        ("instance_2", "http://a:2/health"),
    ]


def test_one_size_may_hold_for_all_environments(tmp_path: Path) -> None:
    text = """\
platform: p
environments: {a: {}, b: {}}
services:
  s: {url: "http://s", resources: {memory: 512MB}, environments: {b: {resources: {memory: 1GB}}}}
"""
    platform = loaded(tmp_path, text)
    sizes = [platform.scope(name).services["s"].resources for name in ("a", "b")]
    assert [str(size.memory) for size in sizes if size] == ["512MB", "1GB"]


def test_the_size_deployed_stands_beside_the_size_asked_for(tmp_path: Path) -> None:
    text = """\
platform: p
environments: {e: {}}
services:
  s:
    url: http://s
    resources:
      e: {memory: 1GB, cpus: 1, cpu_kind: performance, deployed_as: {memory: 2GB}}
"""
    resources = loaded(tmp_path, text).scope("e").services["s"].resources
    assert resources is not None
    assert resources.memory == Size.parse("1GB")
    assert resources.effective == MachineSize(memory=Size.parse("2GB"), cpus=1, cpu_kind="performance")


def test_probe_may_reach_what_the_file_names_unless_it_says_otherwise(tmp_path: Path) -> None:
    scope = loaded(tmp_path, TEN_LINES).scope("production")
    assert scope.probe_targets == ("shop.example:443", "127.0.0.1:5432", "127.0.0.1:4222")
    scope = loaded(tmp_path, TEN_LINES + "probe_targets: ['*.example:443']\n").scope("production")
    assert scope.probe_targets == ("*.example:443",)


def test_modules_of_a_blackbox_file_stand_under_our_own(tmp_path: Path) -> None:
    blackbox = """\
modules:
  web: {prober: http, timeout: 3s, http: {method: GET, fail_if_body_matches_regexp: ["${x}"]}}
  ping: {prober: icmp}
"""
    (tmp_path / "blackbox.yml").write_text(blackbox)
    own = """\
probe_modules_file: blackbox.yml
probe_modules: {web2: {prober: http, http: {method: POST}}}
"""
    platform = loaded(tmp_path, TEN_LINES + own)
    assert list(platform.scope("production").probe_modules) == ["web", "ping", "web2"]
    assert [(problem.severity, problem.line) for problem in platform.warnings] == [("warning", 10)]
    assert "icmp is not supported" in platform.warnings[0].message


def test_ten_times_the_services_cost_ten_times_the_time(tmp_path: Path) -> None:
    def cpu_s(count: int) -> float:
        services = "".join(
            f"  s{number}: {{url: 'http://s{number}', health: /h, depends_on: [d]}}\n"
            for number in range(count)
        )
        text = (
            "platform: p\nenvironments: {e: {}}\ndatabases: {d: {url: 'postgresql://h/d'}}\nservices:\n"
            + services
        )
        started = time.process_time()
        assert len(loaded(tmp_path, text).scope("e").services) == count
        return time.process_time() - started

    # Ten times the services for some ten times the time; a square would be a hundred.
    assert cpu_s(4_000) < 30 * cpu_s(400)


def test_further_checks_have_their_own_kind_and_options(tmp_path: Path) -> None:
    text = """\
platform: p
environments: {e: {}}
services:
  s:
    url: http://s
    checks:
      login: {kind: http, url: "http://s/login", interval: 1m, expect: {status: [401]}}
"""
    check = loaded(tmp_path, text).scope("e").services["s"].checks["login"]
    assert (check.name, check.kind, check.interval, check.timeout) == (
        "login",
        "http",
        Duration(60),
        Duration(5),
    )
    assert isinstance(check.options, HttpOptions)
    assert (check.options.url, check.options.expect.status) == ("http://s/login", (401,))


def test_words_of_old_yaml_are_words_and_quoted_numbers_are_text(tmp_path: Path) -> None:
    text = """\
platform: "12"
environments:
  on: {alias: no, machines: {auto_stop: off}}
"""
    platform = loaded(tmp_path, text)
    environment = platform.scope("on").environment
    assert environment.machines is not None
    assert (platform.name, environment.alias, environment.machines.auto_stop) == ("12", "no", "off")


def test_a_written_rule_replaces_the_built_in_one_of_its_name(tmp_path: Path) -> None:
    alerts = """\
alerts:
  receivers: {me: {console: {}}}
  rules: {service_down: {signal: target_state, for: 1m}}
"""
    text = TEN_LINES + alerts
    rules = loaded(tmp_path, text).scope("production").rules
    assert rules["service_down"] == TargetStateRule(for_=Duration(60))
    assert rules["database_down"] == DEFAULT_RULES["database_down"]


def _postgres(scope: Scope, name: str) -> PostgresOptions:
    options = scope.databases[name].options
    assert isinstance(options, PostgresOptions)
    return options
