"""Plain SQL migrations in dbmate's format, applied in order under one lock, each in its own transaction."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

_FILE: Final = re.compile(r"(\d+)_([a-z0-9_]+)\.sql")
_RISKY: Final = re.compile(
    r"\b(drop\s+(?:table|column|schema|type)|rename\s+(?:to|column)|set\s+not\s+null|alter\s+column\s+\w+\s+type)\b",
    re.IGNORECASE,
)
_SAFE: Final = re.compile(r"--\s*safe:\s*\S")
_LOCK_KEY: Final = 0x6761_6961  # "gaia"


class MigrationError(Exception):
    """A migration is malformed, unsafe, or no longer what was applied."""


class Connection(Protocol):
    """The part of a database connection migrations use."""

    async def execute(self, query: str, *args: object) -> object: ...

    async def rows(self, query: str, *args: object) -> list[tuple[object, ...]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file: `001_users.sql` with `-- migrate:up` and optionally `-- migrate:down`."""

    version: str
    name: str
    up: str
    checksum: str


def read_migrations(folder: Path) -> tuple[Migration, ...]:
    """All migrations of `folder` in order. Raises MigrationError naming the file and the fault."""
    migrations = [_read(path) for path in sorted(folder.glob("*.sql"))]
    versions = [migration.version for migration in migrations]
    for version in versions:
        if versions.count(version) > 1:
            raise MigrationError(f"{folder.name}: two migrations have the number {version}")
    return tuple(migrations)


def _read(path: Path) -> Migration:
    match = _FILE.fullmatch(path.name)
    if match is None:
        raise MigrationError(f"{path.name}: a migration is called 001_lower_case_words.sql")
    text = path.read_text("utf-8")
    _, marker, rest = text.partition("-- migrate:up")
    if not marker:
        raise MigrationError(f'{path.name}: has no "-- migrate:up" line')
    up = rest.partition("-- migrate:down")[0]
    for number, line in enumerate(up.splitlines(), start=1):
        if _RISKY.search(line) and not _SAFE.search(line):
            raise MigrationError(
                f"{path.name}: line {number} after migrate:up breaks the version still running "
                f'({line.strip()[:60]}): expand first, contract later, or say "-- safe: <why>" on that line'
            )
    return Migration(version=match[1], name=match[2], up=up, checksum=hashlib.sha256(up.encode()).hexdigest())


async def migrate(
    connection: Connection, schema: str, migrations: tuple[Migration, ...], *, dry_run: bool = False
) -> tuple[str, ...]:
    """Apply what is missing in `schema` and return its names. Any number of instances may call it at once.

    Raises MigrationError when an applied file has changed since; the database's own error when a statement
    fails: that file is rolled back, earlier ones stay.
    """
    if dry_run:
        known = await connection.rows("select to_regclass($1) is not null", f"{schema}.schema_migrations")
        applied = await _applied(connection, schema) if known[0][0] else {}
        return tuple(migration.name for migration in _missing(migrations, applied))
    await connection.execute("select pg_advisory_lock($1, hashtext($2))", _LOCK_KEY, schema)
    try:
        await connection.execute(f'create schema if not exists "{schema}"')
        await connection.execute(
            f'create table if not exists "{schema}".schema_migrations ('
            "version text primary key, checksum text not null, applied_at timestamptz not null default now())"
        )
        missing = _missing(migrations, await _applied(connection, schema))
        for migration in missing:
            await _apply(connection, schema, migration)
        return tuple(migration.name for migration in missing)
    finally:
        await connection.execute("select pg_advisory_unlock($1, hashtext($2))", _LOCK_KEY, schema)


async def _applied(connection: Connection, schema: str) -> dict[str, str]:
    # The schema is the service's own name, never input.
    rows = await connection.rows(f'select version, checksum from "{schema}".schema_migrations')  # noqa: S608
    return {str(version): str(checksum) for version, checksum in rows}


def _missing(migrations: tuple[Migration, ...], applied: dict[str, str]) -> list[Migration]:
    for migration in migrations:
        if applied.get(migration.version, migration.checksum) != migration.checksum:
            raise MigrationError(
                f"{migration.version}_{migration.name}.sql changed after it was applied: "
                "restore it and write a new migration"
            )
    return [migration for migration in migrations if migration.version not in applied]


async def _apply(connection: Connection, schema: str, migration: Migration) -> None:
    await connection.execute("begin")
    try:
        # A migration that waits for a lock makes every query behind it wait.
        await connection.execute("set local lock_timeout = '3s'")
        await connection.execute(f'set local search_path = "{schema}", public')
        await connection.execute(migration.up)
        await connection.execute(
            f'insert into "{schema}".schema_migrations (version, checksum) values ($1, $2)',  # noqa: S608 (own name)
            migration.version,
            migration.checksum,
        )
    except BaseException:
        await connection.execute("rollback")
        raise
    await connection.execute("commit")
