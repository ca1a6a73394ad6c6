"""Runs one command so that it dies with its parent, on Linux even when the parent is killed with -9.

Executed as a script (`python -I -S leash.py --parent PID [--user NAME | --map-user] -- COMMAND...`), never
imported: a `preexec_fn` would run Python between fork and exec of a process that has threads. The command
replaces this process, so its pid is the one the parent knows. `PR_SET_PDEATHSIG` watches the *thread* that
spawned us: spawn from a thread that lives as long as the command shall.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pwd
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER = 0x10000000
_ORDINARY_USER = 1000
_CANNOT_DROP = 77


def main(words: list[str]) -> int:
    """Drop root as asked, tie to the parent, become the command. Returns only when that failed."""
    options, command = words[: words.index("--")], words[words.index("--") + 1 :]
    parent = int(options[options.index("--parent") + 1])
    try:
        if "--map-user" in options:
            _map_user()
        elif "--user" in options:
            _become(options[options.index("--user") + 1])
    except OSError as error:
        sys.stderr.write(f"cannot drop root privileges: {error}\n")
        return _CANNOT_DROP
    if sys.platform == "linux":
        # After the change of user, which would clear it.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        return 1  # The parent died before the leash was on.
    try:
        os.execvp(command[0], command)  # noqa: S606  # The command comes from our own supervisor.
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error.strerror}\n")
    return 127


def _map_user() -> None:
    """Appear as an ordinary user in a user namespace of one's own; files stay those of the real user."""
    uid, gid = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "user namespace")
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{_ORDINARY_USER} {uid} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{_ORDINARY_USER} {gid} 1", encoding="ascii")


def _become(name: str) -> None:
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        raise OSError(errno.ENOENT, "no such account", name) from None
    os.setgroups([])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
