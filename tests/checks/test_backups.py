"""What the backup catalogue says, and when it says nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from checks.backups import Backup, BackupsOptions, judge
from checks.finding import State
from checks.reason import Reason
from checks.units import Duration
from tests.faults.deep.looking import look_once

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def backup(hours_ago: float, **more: object) -> Backup:
    values = {"bytes": 1000, "encrypted": True, **more}
    return Backup(id=f"b{hours_ago:g}", finished_at=NOW - timedelta(hours=hours_ago), **values)  # type: ignore[arg-type]


def options(**more: object) -> BackupsOptions:
    return BackupsOptions(catalogue="x", **more)  # type: ignore[arg-type]


DAILY = tuple(backup(24 * day + 1) for day in range(10))
CASES = {
    "fresh": (DAILY, options(), State.UP, Reason.OK, "1.0 h old, 10 are kept"),
    "none": ((), options(), State.DEGRADED, Reason.BACKUP_MISSING, "no successful backup"),
    "only failed": (
        (backup(1, state="failed"),),
        options(database=""),
        State.DEGRADED,
        Reason.BACKUP_MISSING,
        "(1 failed)",
    ),
    "old": ((backup(27),), options(), State.DEGRADED, Reason.BACKUP_OLD, "27 h old (limit 26 h)"),
    "far too old": ((backup(60),), options(), State.DEGRADED, Reason.BACKUP_OLD, "limit 50 h"),
    "a failed one does not count": (
        (backup(27), backup(1, state="failed")),
        options(),
        State.DEGRADED,
        Reason.BACKUP_OLD,
        "27 h old",
    ),
    "half the size": (
        (*DAILY[1:], backup(1, bytes=400)),
        options(),
        State.DEGRADED,
        Reason.BACKUP_SIZE,
        "60% off the usual 1000",
    ),
    "not encrypted": (
        (backup(1, encrypted=False),),
        options(encrypted=True),
        State.DEGRADED,
        Reason.BACKUP_UNENCRYPTED,
        "b1 in the catalogue is not encrypted",
    ),
    "never restored": (
        DAILY,
        options(restored_every=Duration(7 * 86400)),
        State.DEGRADED,
        Reason.BACKUP_NEVER_RESTORED,
        "ever been proved",
    ),
    "restored long ago": (
        (*DAILY, backup(900, restored_at=NOW - timedelta(days=30))),
        options(restored_every=Duration(7 * 86400)),
        State.DEGRADED,
        Reason.BACKUP_NEVER_RESTORED,
        "30 days old",
    ),
    "restored lately": (
        (*DAILY[1:], backup(1, restored_at=NOW - timedelta(days=2))),
        options(restored_every=Duration(7 * 86400)),
        State.UP,
        Reason.OK,
        "",
    ),
    "deleted too early": (
        (*DAILY[:5], *(backup(24 * day + 1, state="deleted") for day in range(5, 40))),
        options(keep=Duration(30 * 86400)),
        State.DEGRADED,
        Reason.BACKUP_RETENTION,
        "reach back 4.0 days instead of 30 (kept for 30d)",
    ),
    "as old as the database is": (DAILY, options(keep=Duration(30 * 86400)), State.UP, Reason.OK, ""),
    "deleted when it was due": (
        (*(backup(24 * day + 1) for day in range(30)), backup(24 * 31, state="deleted")),
        options(keep=Duration(30 * 86400)),
        State.UP,
        Reason.OK,
        "30 are kept",
    ),
    "restored before it was deleted": (
        (*DAILY, backup(400, state="deleted", restored_at=NOW - timedelta(days=2))),
        options(restored_every=Duration(7 * 86400)),
        State.UP,
        Reason.OK,
        "",
    ),
    "the last runs failed": (
        (*DAILY, backup(0.5, state="failed"), backup(0.2, state="failed")),
        options(),
        State.UP,
        Reason.BACKUP_MISSING,
        "the last 2 backup runs in the catalogue failed, b0.2 the latest",
    ),
    "empty": (
        (backup(1, bytes=0),),
        options(),
        State.DEGRADED,
        Reason.BACKUP_SIZE,
        "b1 in the catalogue is empty",
    ),
    "from the future": (
        (*DAILY, backup(-30)),
        options(),
        State.UNKNOWN,
        Reason.BACKUP_OLD,
        "b-30 in the catalogue is dated 30.0 h in the future",
    ),
    "a gap": (
        (backup(1), backup(25), backup(24 * 5)),
        options(keep=Duration(30 * 86400)),
        State.DEGRADED,
        Reason.BACKUP_RETENTION,
        "gap of 4.0 days",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_backups_are_judged(case: str) -> None:
    backups, wanted, state, reason, words = CASES[case]
    found = judge(backups, wanted, now_s=NOW.timestamp())
    assert (found.state, found.reason) == (state, reason), found.message
    assert words in found.message


async def test_a_catalogue_is_read_for_its_own_database(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    entries = [
        {"id": "a", "database": "shop", "finished_at": now.isoformat(), "bytes": 5},
        {"id": "b", "database": "other", "finished_at": "2020-01-01T00:00:00Z", "bytes": 7},
    ]
    file = tmp_path / "catalogue.json"
    file.write_text(json.dumps({"backups": entries}))
    found = await look_once("backups", BackupsOptions(catalogue=str(file), database="shop"))
    other = await look_once("backups", BackupsOptions(catalogue=str(file), database="other"))
    assert (found.state, other.reason) == (State.UP, Reason.BACKUP_OLD)
    assert {one.name: one.value for one in found.measures}["gaia_backup_size_bytes"] == 5


async def test_no_catalogue_is_a_missing_backup_and_a_broken_one_a_mistake(tmp_path: Path) -> None:
    absent = await look_once("backups", BackupsOptions(catalogue=str(tmp_path / "none.json")))
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    unread = await look_once("backups", BackupsOptions(catalogue=str(broken)))
    assert (absent.state, absent.reason) == (State.DEGRADED, Reason.BACKUP_MISSING)
    assert (unread.state, unread.reason) == (State.UNKNOWN, Reason.CONFIG)


async def test_a_time_without_a_zone_is_a_mistake_of_the_catalogue(tmp_path: Path) -> None:
    catalogue = tmp_path / "catalogue.json"
    catalogue.write_text('{"backups": [{"id": "b1", "finished_at": "2026-11-23T12:00:00"}]}')
    found = await look_once("backups", BackupsOptions(catalogue=str(catalogue)))
    assert (found.state, found.reason) == (State.UNKNOWN, Reason.CONFIG)
    assert "timezone" in found.message
