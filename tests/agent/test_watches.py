from __future__ import annotations

from pathlib import Path

import pytest

from agent.platform.load import load
from agent.prober import Watch
from agent.watches import shown_address, watches
from checks.catalog import ProbeKit
from checks.clock import SystemClock
from checks.http.options import HttpOptions
from checks.resolver import CachingResolver
from checks.target import Kind

HEAD = "platform: x\nenvironments: {production: {alias: prod, check_interval: 10s}}\n"


def built(folder: Path, text: str) -> tuple[Watch, ...]:
    file = folder / "gaia.yaml"
    file.write_text(HEAD + text)
    scope = load(file, environ={}).scope("production")
    return tuple(watches(scope, ProbeKit(clock=SystemClock(), resolver=CachingResolver())))


def test_every_component_of_the_file_becomes_targets_with_their_checks(tmp_path: Path) -> None:
    placed = built(
        tmp_path,
        """
services:
  web:
    {url: "http://web:80", health: /ok, depends_on: [db], slower_than: 1s,
     checks: {port: {kind: tcp, address: "web:80"}}}
databases: {db: {url: "postgres://u:secret-word@db:5432/app?x=y"}}
brokers: {bus: {url: "nats://u:secret-word@bus:4222"}}
hosts: {here: {}}
""",
    )
    assert [(str(watch.target.key), watch.target.kind, watch.target.address) for watch in placed] == [
        ("production/web/http@public", Kind.SERVICE, "http://web:80/ok"),
        ("production/web/port@agent", Kind.SERVICE, "web:80"),
        ("production/db/postgres@agent", Kind.DATABASE, "db:5432"),
        ("production/bus/nats@agent", Kind.BROKER, "bus:4222"),
        ("production/here/host@agent", Kind.HOST, "here"),
    ]
    web = placed[0]
    assert (web.interval_s, web.timeout_s, web.slower_than_s, web.depends_on) == (10.0, 5.0, 1.0, ("db",))


def test_what_is_looked_at_is_named_as_the_check_says_it(tmp_path: Path) -> None:
    placed = built(
        tmp_path,
        """
services:
  web:
    checks:
      names: {kind: dns, server: 10.0.0.53, name: web.example}
      names6: {kind: dns, server: "fd00::53", port: 5353, name: web.example}
      port: {kind: tcp, address: "web:80"}
      plugin: {kind: exec, command: [check_load]}
""",
    )
    assert [watch.target.address for watch in placed] == [
        "10.0.0.53:53",
        "[fd00::53]:5353",
        "web:80",
        "plugin",
    ]


def test_a_watch_confirms_as_its_component_and_else_its_environment_says(tmp_path: Path) -> None:
    placed = built(
        tmp_path,
        """
services:
  web: {url: "http://web:80", confirm: {recoveries: 4}, checks: {port: {kind: tcp, address: "web:80"}}}
  api: {url: "http://api:80", environments: {production: {confirm: {recoveries: 5}}}}
databases: {db: {url: "postgres://db:5432/app"}}
""",
    )
    assert [watch.confirm.recoveries for watch in placed] == [4, 4, 5, 2]


@pytest.mark.parametrize(
    ("targets", "heartbeat_s"), [(4, 1), (50, 1), (51, 2), (400, 8), (1000, 32), (1001, 0)]
)
def test_all_heartbeats_together_stay_affordable(tmp_path: Path, targets: int, heartbeat_s: int) -> None:
    services = "".join(f'  s{number}: {{url: "http://10.0.0.1:{number + 1}"}}\n' for number in range(targets))
    first = built(tmp_path, f"services:\n{services}")[0]
    assert isinstance(first.options, HttpOptions)
    assert float(first.options.heartbeat) == heartbeat_s


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pw@host:8443/health?token=x", "https://host:8443/health"),
        ("http://[::1]:80/", "http://[::1]:80/"),
        ("postgres://u:p@db/app", "db"),
        ("postgres:///app?host=/run/postgresql", "local"),
        ("nats://[fdaa::3]:4222", "[fdaa::3]:4222"),
    ],
)
def test_an_address_is_shown_without_credentials(url: str, shown: str) -> None:
    assert shown_address(url) == shown
