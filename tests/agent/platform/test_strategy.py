"""The file in the root is the deployment strategy, whole: every number of its tables stands in it."""

from __future__ import annotations

import pytest

from agent.platform.load import load
from agent.platform.model import DeployedAs, MachineSize
from agent.platform.scope import Platform
from alerts.rule import ErrorRatioRule, Severity, SlowRequestRatioRule, TargetStateRule
from checks.finding import State
from checks.target import Kind
from checks.units import Duration, Size
from tests.agent.platform.files import ROOT_FILE, VARIABLES

ENVIRONMENTS = ("development", "staging", "production")
DAY_S = 86400.0


@pytest.fixture(scope="module")
def platform() -> Platform:
    return load(ROOT_FILE, environ=VARIABLES)


def test_it_has_no_mistake_and_no_warning(platform: Platform) -> None:
    assert (platform.warnings, platform.unset) == ((), ())
    assert tuple(platform.environments) == ENVIRONMENTS


def test_the_environments(platform: Platform) -> None:
    rows = [
        (it.alias, it.purpose, it.infrastructure, it.scaling, it.data)
        for it in platform.environments.values()
    ]
    assert rows == [
        (
            "dev",
            "Rapid development and testing",
            "Hybrid local + cloud",
            "Auto-sleep, minimal resources",
            "Test data, frequent resets allowed",
        ),
        (
            "staging",
            "Production-like testing and validation",
            "Full cloud deployment",
            "Scheduled, production-like resources",
            "Production-like data, stable datasets",
        ),
        (
            "prod",
            "Live user traffic",
            "High-availability cloud deployment",
            "Auto-scaling, high-performance resources",
            "Live user data, strict data protection",
        ),
    ]


def test_environment_specific_configuration_and_auto_scaling(platform: Platform) -> None:
    rows = []
    for environment in platform.environments.values():
        machines = environment.machines
        assert machines is not None
        rows.append(
            (
                machines.auto_stop,
                machines.min,
                machines.max,
                environment.log_level,
                environment.check_interval,
            )
        )
    assert rows == [
        ("stop", 0, 1, "DEBUG", Duration(30)),
        ("suspend", 1, 2, "INFO", Duration(15)),
        ("off", 2, 10, "WARNING", Duration(10)),
    ]
    production = platform.environments["production"].machines
    assert production is not None
    assert production.scale_out.cpu_above is not None
    assert production.scale_out.memory_above is not None
    assert len(production.regions) > 1


# Gateway, auth, asset, chat as the strategy's table has them: memory, CPUs, kind of CPU.
RESOURCES = {
    "gateway": (("512MB", 1, "shared"), ("1GB", 1, "shared"), ("2GB", 2, "performance")),
    "auth": (("256MB", 1, "shared"), ("512MB", 1, "shared"), ("1GB", 1, "performance")),
    "asset": (("1GB", 1, "shared"), ("2GB", 1, "performance"), ("4GB", 2, "performance")),
    "chat": (("512MB", 1, "shared"), ("1GB", 1, "shared"), ("2GB", 2, "performance")),
}


def test_resource_allocation(platform: Platform) -> None:
    rows: dict[str, list[tuple[str, int, str]]] = {}
    for environment in ENVIRONMENTS:
        for name, service in platform.scope(environment).services.items():
            size = service.resources
            assert size is not None
            rows.setdefault(name, []).append((str(size.memory), size.cpus, size.cpu_kind))
    assert {name: tuple(row) for name, row in rows.items()} == RESOURCES


def test_what_fly_cannot_give_is_deployed_as_the_least_it_can(platform: Platform) -> None:
    deployed = {}
    for environment in ENVIRONMENTS:
        for name, service in platform.scope(environment).services.items():
            assert service.resources is not None
            if service.resources.deployed_as is not None:
                deployed[environment, name] = service.resources.deployed_as
                assert service.resources.effective.cpus == service.resources.cpus
    assert deployed == {
        ("production", "gateway"): DeployedAs(memory=Size.parse("4GB")),
        ("production", "auth"): DeployedAs(memory=Size.parse("2GB")),
        ("production", "chat"): DeployedAs(memory=Size.parse("4GB")),
    }
    asset = platform.scope("production").services["asset"].resources
    assert asset is not None
    assert asset.effective == MachineSize(memory=Size.parse("4GB"), cpus=2, cpu_kind="performance")


@pytest.mark.parametrize(
    ("environment", "alias"), [("development", "dev"), ("staging", "staging"), ("production", "prod")]
)
def test_service_discovery_and_routes(platform: Platform, environment: str, alias: str) -> None:
    services = platform.scope(environment).services
    assert {name: (it.url, it.internal_url, it.health) for name, it in services.items()} == {
        name: (f"https://gaia-{name}-{alias}.fly.dev", f"http://gaia-{name}-{alias}.flycast", "/health")
        for name in ("gateway", "auth", "asset", "chat")
    }
    assert services["gateway"].routes == {
        "/api/v1/auth/*": "auth",
        "/api/v1/assets/*": "asset",
        "/api/v1/chat/*": "chat",
    }
    assert {name: it.depends_on for name, it in services.items()} == {
        "gateway": ("auth", "asset", "chat"),
        "auth": ("postgres", "nats"),
        "asset": ("postgres", "nats"),
        "chat": ("postgres", "nats"),
    }


def test_databases(platform: Platform) -> None:
    rows = []
    for environment in ENVIRONMENTS:
        it = platform.scope(environment).databases["postgres"]
        backups = None if it.backups is None else (it.backups.every, it.backups.keep, it.backups.encrypted)
        rows.append((it.app, it.topology, it.shared, it.resets, it.standbys, it.pooling, backups))
    assert rows == [
        ("gaia-db-dev", "single", True, True, None, False, None),
        ("gaia-db-staging", "dedicated", False, False, None, False, (DAY_S, 7 * DAY_S, True)),
        ("gaia-db-prod", "ha", False, False, 1, True, (DAY_S, 30 * DAY_S, True)),
    ]


def test_brokers(platform: Platform) -> None:
    rows = []
    for environment in ENVIRONMENTS:
        it = platform.scope(environment).brokers["nats"]
        rows.append((it.topology, it.cluster_size, it.jetstream, it.namespaces, it.failover))
    assert rows == [
        ("shared", 1, False, "per_developer", False),
        ("dedicated", 1, True, "none", False),
        ("clustered", 3, True, "none", True),
    ]


def test_deployment_pipeline(platform: Platform) -> None:
    rows = [
        (
            it.deploy.branches,
            it.deploy.tests,
            it.deploy.approval,
            it.deploy.approval_before_next,
            it.deploy.then,
        )
        for it in platform.environments.values()
    ]
    assert rows == [
        (("develop",), "smoke", False, False, None),
        (("main",), "integration", False, True, "production"),
        (("release/*",), "health", True, False, None),
    ]


def test_secrets_and_variables_by_name(platform: Platform) -> None:
    for environment, level in zip(ENVIRONMENTS, ("DEBUG", "INFO", "WARNING"), strict=True):
        variables = platform.scope(environment).variables
        assert [name for name, it in variables.items() if it.secret] == [
            "API_KEY",
            "OPENAI_API_KEY",
            "ANTHROPIC_API_KEY",
            "DATABASE_URL",
            "NATS_URL",
            "SUPABASE_URL",
            "ASSET_STORAGE",
        ]
        assert variables["LOG_LEVEL"].value == level
    assert [it.rotate_secrets for it in platform.environments.values()] == [None, None, 90 * DAY_S]


def test_logging(platform: Platform) -> None:
    rows = [
        (it.logging.format, it.logging.tracing, it.logging.alert_on) for it in platform.environments.values()
    ]
    assert rows == [("text", False, "never"), ("json", True, "never"), ("json", True, "ERROR")]


def test_development_calls_nobody_and_staging_for_major_failures_only(platform: Platform) -> None:
    development, staging = platform.scope("development"), platform.scope("staging")
    assert {rule.severity for rule in development.rules.values()} == {Severity.LOG}
    assert development.receivers == {}
    assert {name: (rule.severity, rule.for_) for name, rule in staging.rules.items()} == {
        "service_down": (Severity.CHAT, Duration(180)),
        "database_down": (Severity.CHAT, Duration(120)),
        "broker_down": (Severity.CHAT, Duration(120)),
        "major_error_rate": (Severity.CHAT, Duration(300)),
        "new_error_log": (Severity.CHAT, Duration(0)),
    }


def test_production_alerts_on_the_four_conditions_of_the_strategy(platform: Platform) -> None:
    rules = platform.scope("production").rules
    for name, above, severity in (
        ("slow_responses", 0.05, Severity.CHAT),
        ("very_slow_responses", 0.25, Severity.PAGE),
    ):
        slow = rules[name]
        assert isinstance(slow, SlowRequestRatioRule)
        assert (slow.slower_than, float(slow.above), slow.severity) == (Duration(2), above, severity)
    errors = rules["high_error_rate"]
    assert isinstance(errors, ErrorRatioRule)
    assert (errors.above, errors.severity) == (0.05, Severity.PAGE)
    assert rules["database_connection_failures"].kinds == (Kind.DATABASE,)
    for name, state in (("machine_unhealthy", State.DOWN), ("machine_strained", State.DEGRADED)):
        machine = rules[name]
        assert isinstance(machine, TargetStateRule)
        assert (machine.kinds, machine.states) == ((Kind.HOST, Kind.MACHINE), (state,))
    assert {"too_few_machines", "message_queues", "error_logs", "new_error_log"} <= set(rules)


@pytest.mark.parametrize("name", ["service_down", "database_down", "broker_down"])
def test_production_is_called_at_once_when_something_is_down(platform: Platform, name: str) -> None:
    rule = platform.scope("production").rules[name]
    assert isinstance(rule, TargetStateRule)
    assert (rule.for_, rule.severity, rule.states) == (Duration(0), Severity.PAGE, (State.DOWN,))


def test_security(platform: Platform) -> None:
    security = platform.scope("production").security
    assert (security.tls_min_version, security.require_api_key, security.access_log) == ("1.3", True, True)


def test_a_sleeping_development_machine_is_never_probed_through_the_proxy(platform: Platform) -> None:
    services = platform.scope("development").services
    assert [it.name for it in services.values() if it.vantages] == []
    production = platform.scope("production").services
    assert [way.url for it in production.values() for way in it.vantages] == [
        f"https://gaia-{name}-prod.fly.dev" for name in ("gateway", "auth", "asset", "chat")
    ]
