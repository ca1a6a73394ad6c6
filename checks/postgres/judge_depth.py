"""What the deeper numbers mean: pure, from this answer, the one before and the limits to problems."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from checks.finding import Measure, State
from checks.limits import chosen
from checks.postgres.depth import Depth, Slot, Standby
from checks.postgres.judge_vitals import age
from checks.postgres.thresholds import Thresholds
from checks.problem import Problem, over
from checks.reason import Reason
from checks.units import Duration, Size

_XIDS: Final = 2_000_000_000
_LEAST_TRANSACTIONS: Final = 100
_LEAST_BLOCKS: Final = 1000
_LEAST_CHECKPOINTS: Final = 10
# An idle standby reports every wal_receiver_status_interval (10 s by default): younger silence is normal.
_IDLE_REPLY_S: Final = 30.0
# An idle primary speaks every wal_sender_timeout / 2 (30 s by default); after 60 s the standby hangs up.
_IDLE_MESSAGE_S: Final = 40.0


class Span(Struct, frozen=True, kw_only=True):
    """This reading and an earlier one of the same server run, `seconds` apart."""

    now: Depth
    before: Depth
    seconds: float


def judge(span: Span | None, now: Depth, limits: Thresholds, *, shown: str) -> Iterator[Problem]:
    """Problems of either role. `span` is None at the first look and after a restart: no rates then."""
    used = max(now.xid_age, now.mxid_age) / _XIDS
    yield from over(
        chosen(limits.wraparound),
        used,
        Reason.PG_WRAPAROUND,
        lambda at: (
            f"{shown} has used {used:.0%} of its transaction ids (limit {at:.0%}): "
            "find what holds vacuum back, then VACUUM the oldest database"
        ),
    )
    for standby in now.standbys:
        yield from _standby(standby, limits, shown)
    for slot in now.slots:
        yield from _slot(slot, limits, shown)
    if now.archive_failing:
        failing_s = now.archive_failing_s or 0.0
        yield from over(
            chosen(limits.archiver_failing),
            failing_s,
            Reason.PG_ARCHIVER,
            lambda at: (
                f"WAL archiving on {shown} fails since {age(failing_s)} (limit {Duration(at)}), "
                f"{now.archive_failures} failures: pg_wal grows until the disk is full; see archive_command"
            ),
        )
    yield from over(
        chosen(limits.oldest_snapshot),
        now.prepared_s,
        Reason.PG_XMIN_HORIZON,
        lambda at: (
            f"a prepared transaction on {shown} is {age(now.prepared_s or 0)} old (limit {Duration(at)}): "
            "see pg_prepared_xacts; COMMIT or ROLLBACK PREPARED"
        ),
    )
    if now.paused:
        words = f"replay on {shown} is paused: pg_wal_replay_resume()"
        yield Problem(state=State.DEGRADED, reason=Reason.PG_REPLICATION_LAG, message=words)
    yield from _apply(now, limits, shown)
    if span is not None:
        yield from _rates(span, limits, shown)


def _standby(standby: Standby, limits: Thresholds, shown: str) -> Iterator[Problem]:
    """Three witnesses: bytes behind, age of the last reply, state. replay_lag alone lies for a frozen one."""
    name = f"standby {standby.name or standby.address or 'unnamed'} of {shown}"
    behind, reply_s = standby.behind_bytes, standby.reply_age_s
    if behind is None or reply_s is None:
        return
    found = tuple(
        over(
            chosen(limits.replay_bytes),
            behind,
            Reason.PG_REPLICATION_LAG,
            lambda at: f"{name} is {Size(behind) // 2**20} MB behind (limit {Size(at)})",
        )
    )
    if behind > 0 or reply_s > _IDLE_REPLY_S:
        found += over(
            chosen(limits.replay_age),
            reply_s,
            Reason.PG_REPLICATION_LAG,
            lambda at: (
                f"{name} has not reported for {age(reply_s)} (limit {Duration(at)}) and is "
                f"{int(behind)} bytes behind: it may be frozen although its state reads {standby.state}"
            ),
        )
    yield from found


def _slot(slot: Slot, limits: Thresholds, shown: str) -> Iterator[Problem]:
    retained = slot.retained_bytes or 0.0
    if slot.wal_status in ("unreserved", "lost"):
        words = (
            f"replication slot {slot.name} of {shown} is {slot.wal_status}: "
            "its standby must be built anew; drop the slot"
        )
        yield Problem(state=State.DEGRADED, reason=Reason.PG_SLOT, message=words, urgent=True)
        return
    if slot.active:
        return
    yield from over(
        chosen(limits.slot_inactive),
        slot.inactive_s,
        Reason.PG_SLOT,
        lambda at: (
            f"replication slot {slot.name} of {shown} is unused for {age(slot.inactive_s or 0)} "
            f"(limit {Duration(at)}) and keeps {int(retained) // 2**20} MB of WAL: "
            "drop it or start its standby"
        ),
    )
    yield from over(
        chosen(limits.slot_retained),
        retained,
        Reason.PG_SLOT,
        lambda at: (
            f"unused replication slot {slot.name} of {shown} keeps {int(retained) // 2**20} MB of WAL "
            f"(limit {Size(at)}): drop it or start its standby"
        ),
    )


def _apply(now: Depth, limits: Thresholds, shown: str) -> Iterator[Problem]:
    heard_s = now.message_age_s
    if now.receivers and heard_s is not None and heard_s > _IDLE_MESSAGE_S and chosen(limits.receiver_gone):
        words = (
            f"{shown} is connected to its primary and has heard nothing from it for {age(heard_s)}: "
            "the primary or the way to it may be frozen"
        )
        yield Problem(state=State.DEGRADED, reason=Reason.PG_REPLICATION_LAG, message=words)
    if now.apply_bytes:
        yield from over(
            chosen(limits.replay_bytes),
            now.apply_bytes,
            Reason.PG_REPLICATION_LAG,
            lambda at: (
                f"{shown} has {int(now.apply_bytes or 0) // 2**20} MB received and not replayed "
                f"(limit {Size(at)})"
            ),
        )
        # Only with something left to replay does the age of the last replayed commit mean lag.
        yield from over(
            chosen(limits.replay_age),
            now.replayed_age_s,
            Reason.PG_REPLICATION_LAG,
            lambda at: (
                f"{shown} replays what was committed {age(now.replayed_age_s or 0)} ago "
                f"(limit {Duration(at)}): a long query may hold it up"
            ),
        )


def _rates(span: Span, limits: Thresholds, shown: str) -> Iterator[Problem]:
    now, before = span.now, span.before
    minutes = span.seconds / 60
    deadlocks = now.deadlocks - before.deadlocks
    if deadlocks > 0:
        yield from over(
            chosen(limits.deadlocks_per_minute),
            max(deadlocks / max(minutes, 1.0), 1.0),
            Reason.PG_DEADLOCKS,
            lambda at: (
                f"{deadlocks} deadlocks on {shown} since the last look (limit {at:g} a minute): see its log"
            ),
        )
    failures = now.checksum_failures - before.checksum_failures
    if failures > 0:
        words = f"{failures} data checksum failures on {shown} since the last look: the disk lies; fail over"
        yield Problem(state=State.DEGRADED, reason=Reason.PG_CHECKSUM, message=words, urgent=True)
    rollbacks = now.rollbacks - before.rollbacks
    total = rollbacks + now.commits - before.commits
    if total >= _LEAST_TRANSACTIONS:
        yield from over(
            chosen(limits.rollbacks),
            rollbacks / total,
            Reason.PG_ROLLBACKS,
            lambda at: f"{rollbacks} of {total} transactions on {shown} rolled back (limit {at:.0%})",
        )
    yield from _informal(span, limits, shown)


def _informal(span: Span, limits: Thresholds, shown: str) -> Iterator[Problem]:
    """Worth a word in the evidence, never a call: the state stays up."""
    now, before = span.now, span.before
    read = now.blocks_read - before.blocks_read
    blocks = read + now.blocks_hit - before.blocks_hit
    if blocks >= _LEAST_BLOCKS:
        yield from over(
            chosen(limits.cache_misses),
            read / blocks,
            Reason.PG_CACHE,
            lambda at: f"{read / blocks:.1%} of block reads on {shown} miss the cache (limit {at:.0%})",
            warn_state=State.UP,
        )
    requested = now.checkpoints_requested - before.checkpoints_requested
    checkpoints = requested + now.checkpoints_timed - before.checkpoints_timed
    if checkpoints >= _LEAST_CHECKPOINTS:
        yield from over(
            chosen(limits.requested_checkpoints),
            requested / checkpoints,
            Reason.PG_CHECKPOINTS,
            lambda at: (
                f"{requested} of {checkpoints} checkpoints on {shown} were forced "
                f"(limit {at:.0%}): raise max_wal_size"
            ),
            warn_state=State.UP,
        )


def measures(now: Depth) -> tuple[Measure, ...]:
    """The numbers of the deeper statement."""
    plain: dict[str, float | None] = {
        "gaia_postgres_commits_total": now.commits,
        "gaia_postgres_rollbacks_total": now.rollbacks,
        "gaia_postgres_blocks_read_total": now.blocks_read,
        "gaia_postgres_blocks_hit_total": now.blocks_hit,
        "gaia_postgres_deadlocks_total": now.deadlocks,
        "gaia_postgres_checksum_failures_total": now.checksum_failures,
        "gaia_postgres_temp_bytes_total": now.temp_bytes,
        "gaia_postgres_xid_used_ratio": max(now.xid_age, now.mxid_age) / _XIDS,
        "gaia_postgres_checkpoints_timed_total": now.checkpoints_timed,
        "gaia_postgres_checkpoints_requested_total": now.checkpoints_requested,
        "gaia_postgres_wal_bytes_total": now.wal_bytes,
        "gaia_postgres_apply_bytes": now.apply_bytes,
        "gaia_postgres_wal_receivers": now.receivers,
        "gaia_postgres_message_age_seconds": now.message_age_s,
    }
    if now.wal_bytes is not None:
        plain["gaia_postgres_standbys"] = len(now.standbys)
        plain["gaia_postgres_prepared_transactions"] = now.prepared
    if now.archiving:
        plain["gaia_postgres_archived_total"] = now.archived
        plain["gaia_postgres_archive_failures_total"] = now.archive_failures
    found = [Measure(name=name, value=float(value)) for name, value in plain.items() if value is not None]
    for name, standby in {_label(standby): standby for standby in now.standbys}.items():
        labels = (("standby", name),)
        if standby.behind_bytes is not None:
            found.append(
                Measure(name="gaia_postgres_standby_behind_bytes", value=standby.behind_bytes, labels=labels)
            )
        if standby.reply_age_s is not None:
            found.append(
                Measure(
                    name="gaia_postgres_standby_reply_age_seconds", value=standby.reply_age_s, labels=labels
                )
            )
    for slot in now.slots:
        if slot.retained_bytes is not None:
            labels = (("slot", slot.name),)
            found.append(
                Measure(name="gaia_postgres_slot_retained_bytes", value=slot.retained_bytes, labels=labels)
            )
    return tuple(found)


def _label(standby: Standby) -> str:
    """Every standby is called walreceiver unless someone named it, so the address is part of the name."""
    return "@".join(part for part in (standby.name, standby.address) if part) or "unnamed"
