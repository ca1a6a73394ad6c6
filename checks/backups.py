"""The backup check: reads the catalogue a deployment writes; says when a backup is old, odd or unproved.

The catalogue is JSON, one file: `{"backups": [{"id", "database", "finished_at", "bytes", "state",
"encrypted", "restored_at"}]}` with RFC 3339 times; `state` is `ok`, `failed` or `deleted`; `restored_at` is
when a restore of that backup was last proved. Listing a dump proves nothing: a dump cut in half still lists.
What was deleted stays in the list, so that retention can be told from a young database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Annotated, Final

import msgspec

from checks.catalog import CheckKind, MeasureInfo, ProbeKit
from checks.finding import Finding, Measure, State
from checks.limits import DurationLimit, seconds
from checks.problem import Problem, finding_of, over
from checks.reason import Reason
from checks.target import Target
from checks.units import Duration, Ratio

_MAX_BYTES: Final = 16 << 20
_COMPARED: Final = 7
_LEAST_COMPARED: Final = 3
_CLOCKS_APART_S: Final = 300.0


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the catalogue."""

    id: str
    database: str = ""
    finished_at: Annotated[datetime, msgspec.Meta(tz=True)]
    bytes: int = 0
    state: str = "ok"
    encrypted: bool = False
    restored_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class Catalogue(msgspec.Struct, frozen=True, kw_only=True):
    backups: tuple[Backup, ...] = ()


class BackupsOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the backups of one database must be like.

    `every`: the newest may be older by a tenth before it is late, and by as much again before it is critical.
    `keep`: how far back backups must reach, once the first is that old.
    `restored_every`: how often a restore must be proved; None: never asked.
    `size_change`: how far the newest may be from the median of those before it.
    """

    catalogue: str
    database: str = ""
    every: Duration = Duration(86400)
    keep: Duration | None = None
    encrypted: bool = False
    restored_every: Duration | None = None
    size_change: Ratio = Ratio(0.5)

    def age_limits(self) -> DurationLimit:
        return seconds(self.every * 26 / 24, self.every * 50 / 24)


class BackupsCheck:
    """Reads the catalogue in a thread of its own."""

    def __init__(self, target: Target, options: BackupsOptions, kit: ProbeKit) -> None:
        self._target = target
        self._options = options
        self._clock = kit.clock
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="gaia-backups")

    async def probe(self) -> Finding:
        path = self._options.catalogue
        try:
            data = await asyncio.get_running_loop().run_in_executor(self._thread, _read, Path(path))
            catalogue = msgspec.json.decode(data, type=Catalogue)
        except FileNotFoundError:
            words = (
                f"there is no backup catalogue at {path}: nothing was ever backed up, or the path is wrong"
            )
            return Finding(state=State.DEGRADED, reason=Reason.BACKUP_MISSING, message=words)
        except (OSError, ValueError) as error:
            words = f"the backup catalogue {path} cannot be read ({error}): repair it"
            return Finding(state=State.UNKNOWN, reason=Reason.CONFIG, message=words)
        own = [one for one in catalogue.backups if self._options.database in ("", one.database)]
        return judge(tuple(own), self._options, now_s=self._clock.wall_s())

    async def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


def judge(backups: tuple[Backup, ...], options: BackupsOptions, *, now_s: float) -> Finding:
    """Pure: the finding for these entries at this Unix second."""
    good = sorted((one for one in backups if one.state == "ok"), key=lambda one: one.finished_at)
    what = f"of {options.database}" if options.database else "in the catalogue"
    if not good:
        count = sum(one.state == "failed" for one in backups)
        failed = f" ({count} failed)" if count else ""
        words = f"there is no successful backup {what}{failed}: run one and read its log"
        return Finding(state=State.DEGRADED, reason=Reason.BACKUP_MISSING, message=words)
    newest = good[-1]
    age_s = now_s - newest.finished_at.timestamp()
    if age_s < -_CLOCKS_APART_S:
        # It would be fresh for as long as its date is wrong.
        words = (
            f"backup {newest.id} {what} is dated {-age_s / 3600:.1f} h in the future, so its "
            "age is not known: check the clock of the machine that makes backups"
        )
        return Finding(state=State.UNKNOWN, reason=Reason.BACKUP_OLD, message=words)
    problems = (
        *over(
            options.age_limits(),
            age_s,
            Reason.BACKUP_OLD,
            lambda at: (
                f"the newest backup {what} is {age_s / 3600:.0f} h old (limit {at / 3600:.0f} h): "
                "see why the last run failed"
            ),
        ),
        *_shape(good, options, what),
        *_proof(backups, options, what, now_s),
        *_retention(backups, good, options, what, now_s),
        *_failed_since(backups, newest, what),
    )
    return finding_of(
        problems,
        fine=f"the newest backup {what} is {age_s / 3600:.1f} h old, {len(good)} are kept",
        measures=_measures(good, backups),
    )


def _shape(good: list[Backup], options: BackupsOptions, what: str) -> Iterator[Problem]:
    newest = good[-1]
    if options.encrypted and not newest.encrypted:
        words = f"backup {newest.id} {what} is not encrypted and must be: set its recipients"
        yield Problem(state=State.DEGRADED, reason=Reason.BACKUP_UNENCRYPTED, message=words, urgent=True)
    if newest.bytes == 0:
        words = f"backup {newest.id} {what} is empty: read the log of the run that made it"
        yield Problem(state=State.DEGRADED, reason=Reason.BACKUP_SIZE, message=words, urgent=True)
        return
    before = [one.bytes for one in good[-1 - _COMPARED : -1]]
    if len(before) >= _LEAST_COMPARED and (usual := median(before)) > 0:
        change = abs(newest.bytes - usual) / usual
        if change > options.size_change:
            words = (
                f"backup {newest.id} {what} has {newest.bytes} bytes, {change:.0%} off the usual {usual:.0f} "
                f"(limit {options.size_change}): is it whole?"
            )
            yield Problem(state=State.DEGRADED, reason=Reason.BACKUP_SIZE, message=words)


def _failed_since(backups: tuple[Backup, ...], newest: Backup, what: str) -> Iterator[Problem]:
    """Worth a word before the newest is too old, and then it is said why."""
    failed = [one for one in backups if one.state == "failed" and one.finished_at > newest.finished_at]
    if failed:
        last = max(failed, key=lambda one: one.finished_at)
        words = f"the last {len(failed)} backup runs {what} failed, {last.id} the latest: read its log"
        yield Problem(state=State.UP, reason=Reason.BACKUP_MISSING, message=words)


def _proof(
    backups: tuple[Backup, ...], options: BackupsOptions, what: str, now_s: float
) -> Iterator[Problem]:
    limit = options.restored_every
    if limit is None:
        return
    proofs = _proofs(backups)
    if not proofs:
        words = f"no restore of a backup {what} has ever been proved: run a restore test"
        yield Problem(state=State.DEGRADED, reason=Reason.BACKUP_NEVER_RESTORED, message=words)
    elif now_s - max(proofs) > limit:
        days = (now_s - max(proofs)) / 86400
        words = f"the last proved restore {what} is {days:.0f} days old (limit {limit}): run a restore test"
        yield Problem(state=State.DEGRADED, reason=Reason.BACKUP_NEVER_RESTORED, message=words)


def _proofs(backups: tuple[Backup, ...]) -> list[float]:
    """When a restore was proved; also of a backup that has been deleted since."""
    return [one.restored_at.timestamp() for one in backups if one.restored_at is not None]


def _retention(
    backups: tuple[Backup, ...], good: list[Backup], options: BackupsOptions, what: str, now_s: float
) -> Iterator[Problem]:
    if options.keep is None:
        return
    began_s = min(one.finished_at.timestamp() for one in backups)
    oldest_s = good[0].finished_at.timestamp()
    promised_s = max(began_s, now_s - options.keep)
    if oldest_s - promised_s > 2 * options.every:
        words = (
            f"the backups {what} reach back {(now_s - oldest_s) / 86400:.1f} days instead of "
            f"{(now_s - promised_s) / 86400:.0f} (kept for {options.keep}): "
            "some were deleted too early, or failed"
        )
        yield Problem(state=State.DEGRADED, reason=Reason.BACKUP_RETENTION, message=words, urgent=True)
        return
    # A gap of more than twice the rhythm within the promised time is a day that cannot be gone back to.
    kept = [
        one.finished_at.timestamp() for one in good if now_s - one.finished_at.timestamp() <= options.keep
    ]
    gaps = [later - earlier for earlier, later in pairwise(kept)]
    if gaps and max(gaps) > 2 * options.every:
        words = (
            f"the backups {what} have a gap of {max(gaps) / 86400:.1f} days within the last {options.keep}: "
            "retention is not what was promised"
        )
        yield Problem(state=State.DEGRADED, reason=Reason.BACKUP_RETENTION, message=words)


def _measures(good: list[Backup], backups: tuple[Backup, ...]) -> tuple[Measure, ...]:
    newest = good[-1]
    plain = {
        "gaia_backup_last_success_timestamp_seconds": newest.finished_at.timestamp(),
        "gaia_backup_size_bytes": float(newest.bytes),
        "gaia_backup_kept": float(len(good)),
        "gaia_backup_failed": float(sum(one.state == "failed" for one in backups)),
    }
    proofs = _proofs(backups)
    if proofs:
        plain["gaia_backup_last_restore_timestamp_seconds"] = max(proofs)
    return tuple(Measure(name=name, value=value) for name, value in plain.items())


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise ValueError(f"larger than {_MAX_BYTES} bytes")
    return data


def _gauge(name: str, text: str) -> MeasureInfo:
    return MeasureInfo(name=f"gaia_backup_{name}", type="gauge", help=text)


MEASURES: Final = (
    _gauge("last_success_timestamp_seconds", "When the newest good backup was finished, Unix seconds."),
    _gauge("last_restore_timestamp_seconds", "When a restore was last proved, Unix seconds."),
    _gauge("size_bytes", "Size of the newest good backup."),
    _gauge("kept", "Good backups in the catalogue."),
    _gauge("failed", "Failed backups in the catalogue."),
)
KIND: Final = CheckKind(name="backups", options=BackupsOptions, build=BackupsCheck, measures=MEASURES)
