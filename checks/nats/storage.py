"""How full JetStream's storage is: against its own limit, the real disk and the account's limit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from checks.finding import State
from checks.limits import chosen
from checks.nats.jetstream import AccountInfo, Jsz
from checks.nats.thresholds import Thresholds
from checks.problem import Problem, over
from checks.reason import Reason


def judge(jsz: Jsz, limits: Thresholds, *, shown: str, directory: Path | None) -> Iterator[Problem]:
    """`directory`: the store where it is on this machine. A limit of 256 MB on a disk of 8 looks 3 % full."""
    most = jsz.config.max_storage
    if most > 0:
        used = jsz.storage / most
        yield from over(
            chosen(limits.storage),
            used,
            Reason.JS_STORAGE_HIGH,
            lambda at: (
                f"JetStream on {shown} has used {used:.0%} of its {most // 2**20} MB (limit {at:.0%}): "
                "delete or limit streams, or raise max_file_store"
            ),
        )
    full = None if directory is None else _full(directory)
    if full is not None and full[1] <= 0:
        words = f"the disk under JetStream's store on {shown} is full: nothing can be stored; extend it"
        yield Problem(state=State.DOWN, reason=Reason.JS_DISK_FULL, message=words, urgent=True)
    elif full is not None:
        share = full[0]
        yield from over(
            chosen(limits.storage),
            share,
            Reason.JS_STORAGE_HIGH,
            lambda at: (
                f"the disk under JetStream's store on {shown} is {share:.0%} full (limit {at:.0%}), whatever "
                "its own limit says: extend it"
            ),
        )


def judge_account(info: AccountInfo, limits: Thresholds, *, monitored: bool) -> Iterator[Problem]:
    """Our own account's use of each of its limits; `monitored`: every account's bytes are known already."""
    counted = (
        ("streams", info.streams, info.limits.max_streams),
        ("consumers", info.consumers, info.limits.max_consumers),
    )
    stored = (
        ("storage", info.storage, info.limits.max_storage),
        ("memory", info.memory, info.limits.max_memory),
    )
    parts = counted if monitored else (*stored, *counted)
    for name, used, most in parts:
        if most > 0:
            yield from over(
                chosen(limits.account_use),
                used / most,
                Reason.JS_ACCOUNT_LIMIT,
                lambda at, name=name, used=used, most=most: (  # type: ignore[misc]  # bound per turn.
                    f"the account has used {used / most:.0%} of its JetStream {name} "
                    f"({used} of {most}, limit {at:.0%})"
                ),
            )


def _full(directory: Path) -> tuple[float, int] | None:
    """Share used and bytes free; None where the directory is not ours to see."""
    try:
        seen = os.statvfs(directory)
    except OSError:
        return None
    if not seen.f_blocks:
        return None
    return 1 - seen.f_bavail / seen.f_blocks, seen.f_bavail * seen.f_frsize
