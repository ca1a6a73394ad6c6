"""Checks that follow from what the file says anyway: machines of a Fly.io app, backups of a database."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from agent.platform.model import Agent, CheckSpec, Database, Host, Service
from checks.units import Duration


def with_machines(service: Service, agent: Agent) -> Service:
    """`service`, its Fly.io machines looked after: the only witness there is while they may sleep."""
    machines = service.machines
    if service.app is None or machines is None or "machines" in service.checks:
        return service
    from checks.machines.options import MachinesOptions

    size = service.resources.effective if service.resources is not None else None
    options = MachinesOptions(
        app=service.app,
        minimum=machines.min,
        regions=machines.regions if machines.min else (),
        memory=size.memory if size is not None else None,
        cpus=size.cpus if size is not None else None,
        cpu_kind=size.cpu_kind if size is not None else None,
        start_within=machines.start_within,
        token=agent.fly_token or None,
    )
    checks = _added(service.checks, "machines", service.interval, service.timeout, options)
    return msgspec.structs.replace(service, checks=checks)


def with_backups(database: Database) -> Database:
    """`database`, its backups looked after where their catalogue is known."""
    backups = database.backups
    if backups is None or backups.catalogue is None or "backups" in database.checks:
        return database
    from checks.backups import BackupsOptions

    options = BackupsOptions(
        catalogue=backups.catalogue,
        database=database.app or database.name,
        every=backups.every,
        keep=backups.keep,
        encrypted=backups.encrypted,
        restored_every=backups.restore_test_every,
    )
    interval = Duration(max(60.0, database.interval))
    checks = _added(database.checks, "backups", interval, database.timeout, options)
    return msgspec.structs.replace(database, checks=checks)


def with_writes(host: Host, agent: Agent) -> Host:
    """`host`, its disk tried by writing where the agent keeps its state anyway."""
    from checks.host.check import HostOptions

    options = host.options
    if not isinstance(options, HostOptions) or options.writes:
        return host
    return msgspec.structs.replace(host, options=msgspec.structs.replace(options, writes=(agent.data_dir,)))


def left_alone(database: Database, services: Mapping[str, Service]) -> Database:
    """`database`, asked only while an app that needs it is started, where it and all of them may sleep."""
    options = database.options
    from checks.postgres.options import PostgresOptions

    if not isinstance(options, PostgresOptions) or options.hold or database.app is None:
        return database
    users = [service for service in services.values() if database.name in service.depends_on]
    apps = tuple(service.app for service in users if service.app is not None and service.asleep_allowed)
    if options.only_while_started or not apps or len(apps) < len(users):
        return database
    options = msgspec.structs.replace(options, only_while_started=apps)
    return msgspec.structs.replace(database, options=options)


def _added(
    checks: Mapping[str, CheckSpec], kind: str, interval: Duration, timeout: Duration, options: msgspec.Struct
) -> dict[str, CheckSpec]:
    spec = CheckSpec(name=kind, kind=kind, interval=interval, timeout=timeout, options=options)
    return {**checks, kind: spec}
