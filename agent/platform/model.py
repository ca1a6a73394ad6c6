"""What gaia.yaml says, typed: one Struct per table, as effective in one environment."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from checks.http.options import HttpOptions
from checks.secret import Secret
from checks.units import Duration, Ratio, Size
from checks.verdict import ConfirmPolicy

Count = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Text = Annotated[str, msgspec.Meta(min_length=1)]

# What looks at a component unless its `kind` says otherwise.
DEFAULT_KINDS: Final = {"Database": "postgres", "Broker": "nats", "Host": "host"}


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file; its keys are its fields."""


class ScaleOut(Table, frozen=True, kw_only=True):
    """What starts another machine below `max`: the strategy's CPU and memory triggers."""

    cpu_above: Ratio | None = None
    memory_above: Ratio | None = None
    requests_above: Positive | None = None


class Machines(Table, frozen=True, kw_only=True):
    """How many machines a service may have, and what happens to idle ones."""

    auto_stop: Literal["off", "stop", "suspend"] = "off"
    min: Count = 1
    max: Positive = 1
    scale_out: ScaleOut = ScaleOut()
    regions: tuple[Text, ...] = ()
    start_within: Duration = Duration(30)

    @property
    def may_sleep(self) -> bool:
        """Whether having no started machine is as intended."""
        return self.min == 0 and self.auto_stop != "off"


class MachineSize(Table, frozen=True, kw_only=True):
    """A machine's size; `performance` is Fly.io's word for a dedicated CPU."""

    memory: Size
    cpus: Positive = 1
    cpu_kind: Literal["shared", "performance"] = "shared"


class DeployedAs(Table, frozen=True, kw_only=True):
    """What is deployed instead where the platform cannot give the size that was asked for."""

    memory: Size | None = None
    cpus: Positive | None = None
    cpu_kind: Literal["shared", "performance"] | None = None
    because: str = ""


class Resources(MachineSize, frozen=True, kw_only=True):
    """A machine's size as asked for, and beside it the legal size where the platform refuses that."""

    deployed_as: DeployedAs | None = None

    @property
    def effective(self) -> MachineSize:
        """The size that is deployed."""
        other = self.deployed_as or DeployedAs()
        return MachineSize(
            memory=other.memory if other.memory is not None else self.memory,
            cpus=other.cpus if other.cpus is not None else self.cpus,
            cpu_kind=other.cpu_kind if other.cpu_kind is not None else self.cpu_kind,
        )


class Logging(Table, frozen=True, kw_only=True):
    """How services log and where it goes."""

    format: Literal["text", "json"] = "json"
    tracing: bool = True
    to: Text = "stdout"
    alert_on: Literal["ERROR", "CRITICAL", "never"] = "never"


class Retention(Table, frozen=True, kw_only=True):
    """How long the agent keeps what it saw."""

    history: Duration = Duration(7 * 86400)
    incidents: Duration = Duration(90 * 86400)


class Deploy(Table, frozen=True, kw_only=True):
    """How this environment is deployed to."""

    branches: tuple[Text, ...] = ()
    approval: bool = False
    strategy: Literal["immediate", "rolling", "bluegreen", "canary"] = "rolling"
    tests: Literal["none", "smoke", "integration", "health"] = "none"
    approval_before_next: bool = False
    then: str | None = None


class Environment(Table, frozen=True, kw_only=True):
    """One environment: `alias` is what `{env}` becomes."""

    name: str
    alias: Text
    purpose: str = ""
    infrastructure: str = ""
    scaling: str = ""
    data: str = ""
    check_interval: Duration = Duration(10)
    confirm: ConfirmPolicy = ConfirmPolicy()
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    alerts: Text = "comprehensive"
    machines: Machines | None = None
    logging: Logging = Logging()
    retention: Retention = Retention()
    rotate_secrets: Duration | None = None
    deploy: Deploy = Deploy()


class CheckSpec(Table, frozen=True, kw_only=True):
    """One more check of a component: its kind from the catalog and that kind's own options."""

    name: str
    kind: Text
    interval: Duration
    timeout: Duration
    options: msgspec.Struct


class Vantage(Table, frozen=True, kw_only=True):
    """One way to reach a service and how its health is asked there.

    `public` is the way users take, `internal` the one other services take, `instance_1` and so on are
    single instances.
    """

    name: str
    url: str
    options: HttpOptions


class Service(Table, frozen=True, kw_only=True):
    """One service of the platform.

    `vantages` are the ways that are probed. There is none where a request would start a machine that
    may sleep (`asleep_allowed`); its state then comes from the machines themselves.
    """

    name: str
    interval: Duration
    timeout: Duration
    confirm: ConfirmPolicy = ConfirmPolicy()
    url: str | None = None
    internal_url: str | None = None
    instances: tuple[Text, ...] = ()
    app: str | None = None
    health: str = "/health"
    metrics: str | None = None
    routes: dict[str, str] = {}
    depends_on: tuple[Text, ...] = ()
    slower_than: Duration = Duration(2)
    machines: Machines | None = None
    resources: Resources | None = None
    probe: tuple[Literal["public", "internal"], ...] | None = None
    wake: bool = False
    vantages: tuple[Vantage, ...] = ()
    runbook: str | None = None
    checks: dict[str, CheckSpec] = {}

    @property
    def asleep_allowed(self) -> bool:
        """Whether a request through Fly.io's proxy could start a machine that sleeps on purpose."""
        return self.machines is not None and self.machines.may_sleep and not self.wake


class Backups(Table, frozen=True, kw_only=True):
    """What must exist so that data survives."""

    every: Duration = Duration(86400)
    keep: Duration = Duration(30 * 86400)
    encrypted: bool = True
    restore_test_every: Duration | None = None
    catalogue: str | None = None


class Database(Table, frozen=True, kw_only=True):
    """One database, and who it is meant to be."""

    name: str
    interval: Duration
    timeout: Duration
    confirm: ConfirmPolicy = ConfirmPolicy()
    url: Secret
    kind: Text = DEFAULT_KINDS["Database"]
    app: str | None = None
    topology: Literal["single", "dedicated", "ha"] = "single"
    shared: bool = False
    standbys: Count | None = None
    pooling: bool = False
    resets: bool = False
    encrypted_at_rest: bool = True
    expected_role: Literal["primary", "standby", "any"] = "primary"
    slower_than: Duration = Duration(2)
    backups: Backups | None = None
    runbook: str | None = None
    checks: dict[str, CheckSpec] = {}
    options: msgspec.Struct


class Broker(Table, frozen=True, kw_only=True):
    """One message broker."""

    name: str
    interval: Duration
    timeout: Duration
    confirm: ConfirmPolicy = ConfirmPolicy()
    url: Secret
    kind: Text = DEFAULT_KINDS["Broker"]
    monitor_url: str | None = None
    app: str | None = None
    topology: Literal["shared", "dedicated", "clustered"] = "dedicated"
    cluster_size: Positive = 1
    jetstream: bool = False
    namespaces: Literal["none", "per_developer"] = "none"
    failover: bool = False
    slower_than: Duration = Duration(2)
    runbook: str | None = None
    checks: dict[str, CheckSpec] = {}
    options: msgspec.Struct


class Host(Table, frozen=True, kw_only=True):
    """The machine the agent runs on."""

    name: str
    interval: Duration
    timeout: Duration
    confirm: ConfirmPolicy = ConfirmPolicy()
    kind: Text = DEFAULT_KINDS["Host"]
    checks: dict[str, CheckSpec] = {}
    options: msgspec.Struct


class Agent(Table, frozen=True, kw_only=True):
    """The agent's own settings."""

    listen: Text = "127.0.0.1:9877"
    token: Secret | None = None
    data_dir: Text = ".gaia"
    otlp_listen: str | None = "127.0.0.1:4318"
    otlp_grpc_listen: str | None = None
    fly_token: Secret | None = None


class Variable(Table, frozen=True, kw_only=True):
    """A variable the services need: by name, never with its secret value."""

    name: str
    purpose: str = ""
    secret: bool = True
    value: str | None = None
    services: tuple[Text, ...] | None = None


class Security(Table, frozen=True, kw_only=True):
    """What must hold for every connection and every copy of data."""

    tls_min_version: Literal["1.2", "1.3"] = "1.2"
    internal_traffic: Literal["https", "private_network"] = "private_network"
    require_api_key: bool = False
    access_log: bool = False
