from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from agent.local.child import Child, describe_exit, leashed, wait_gone
from tests.waiting import until_sync

_START_BOTH = """
import sys
import tempfile
from pathlib import Path
from agent.local.nats import LocalNats
from agent.local.postgres import LocalPostgres

folder = Path(sys.argv[1])
for server in (LocalPostgres(folder / "pg"), LocalNats(folder / "nats")):
    server.start()
    server.kill()
    server.start()
    server.stop()
print("both ran")
"""


def _run_both(prefix: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, sys.executable, "-c", _START_BOTH, str(folder)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def _works(*command: str) -> bool:
    return (
        shutil.which(command[0]) is not None
        and not subprocess.run([*command, "true"], capture_output=True, timeout=10, check=False).returncode
    )


def test_a_child_dies_with_a_parent_killed_with_9(tmp_path: Path) -> None:
    report = tmp_path / "pid"
    script = f"""
import time
from pathlib import Path
from agent.local.child import Child
child = Child(["sleep", "60"], log=Path({str(tmp_path / "log")!r}))
Path({str(report)!r}).write_text(str(child.pid))
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", script])
    until_sync(lambda: report.exists() and report.read_text(), within_s=10, what="child started")
    child = int(report.read_text())
    parent.kill()
    parent.wait(5)
    assert wait_gone((child,), within_s=2)


def test_a_command_that_does_not_exist_is_named_in_the_log(tmp_path: Path) -> None:
    child = Child(["/no/such/program"], log=tmp_path / "log")
    assert child.wait(within_s=5)
    assert (child.exit_code(), child.last_lines()) == (
        127,
        "    cannot run /no/such/program: No such file or directory",
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to drop")
@pytest.mark.parametrize("drop", [("--user", "nobody"), ("--map-user",)])
def test_root_is_dropped(drop: tuple[str, ...]) -> None:
    if drop == ("--map-user",) and not _works("unshare", "--user", "--map-user=1000"):
        pytest.skip("no user namespaces here")
    done = subprocess.run(
        leashed(["id", "-u"], drop=drop), capture_output=True, text=True, check=True, cwd="/"
    )
    assert done.stdout.strip() not in {"", "0"}


def test_both_servers_run_for_an_ordinary_user(tmp_path: Path) -> None:
    prefix = []
    if os.geteuid() == 0:
        prefix = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
        if not _works(*prefix):
            pytest.skip("no user namespaces here, and this is root")
    assert _run_both(prefix, tmp_path).stdout == "both ran\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
def test_both_servers_run_as_an_account_where_namespaces_are_forbidden(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GAIA_PG_USER", "nobody")
    # Not tmp_path: only its owner may enter that.
    with tempfile.TemporaryDirectory(prefix="gaia-") as name:
        folder = Path(name)
        done = _run_both([], folder)
        if "refuses to run as root and no other way" in done.stderr:
            pytest.skip("nobody may not read this installation")
        assert (done.stdout, done.stderr) == ("both ran\n", "")
        assert (folder / "pg").owner() == "nobody"


def test_an_account_that_does_not_exist_is_named(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another account")
    done = subprocess.run(
        leashed(["true"], drop=("--user", "nobody-here")), capture_output=True, text=True, check=False
    )
    assert done.stderr == "cannot drop root privileges: [Errno 2] no such account: 'nobody-here'\n"


def test_both_servers_run_without_ipv6(tmp_path: Path) -> None:
    off = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6 && ip link set lo up"
    without = f'{off} && ! ip -6 addr | grep -q . && "$@"'
    prefix = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", without, "sh"]
    if not _works(*prefix):
        pytest.skip("no network namespaces (or no `ip`) here")
    done = _run_both(prefix, tmp_path)
    assert (done.stdout, done.stderr) == ("both ran\n", "")


def test_where_root_cannot_be_dropped_the_ways_tried_and_the_remedy_are_told(tmp_path: Path) -> None:
    # Root of a user namespace that may make no further ones and knows no other user.
    prefix = ["unshare", "--user", "--map-root-user", "sh", "-c"]
    prefix += ['echo 0 > /proc/sys/user/max_user_namespaces && "$@"', "sh"]
    if not _works(*prefix):
        pytest.skip("no user namespaces here")
    done = _run_both(prefix, tmp_path)
    assert (
        "PostgreSQL refuses to run as root and no other way works here: run as an ordinary user"
        in done.stderr
    )
    assert "--map-user: cannot drop root privileges: [Errno 28] No space left on device" in done.stderr


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0, "exited with 0"),
        (3, "exited with 3"),
        (-signal.SIGKILL, "killed by signal 9 (SIGKILL)"),
        (-63, "killed by signal 63"),
    ],
)
def test_an_exit_is_told_in_words(code: int, text: str) -> None:
    assert describe_exit(code) == text
