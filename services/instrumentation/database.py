"""PostgreSQL for a service: a pool that starts without its server, reconnects by itself, and is measured."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol, cast

from services.instrumentation.health import Criticality, Dependency, Reading, Status
from services.instrumentation.kit import Instrumentation
from services.instrumentation.migrations import MigrationError, migrate, read_migrations
from services.instrumentation.problem import UnavailableError
from services.instrumentation.tracing import Kind

logger = logging.getLogger(__name__)

_CONNECT_S: Final = 2.0
_QUERY_S: Final = 5.0
_ACQUIRE_S: Final = 1.0
_RETRY_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
HEALTH: Final = "postgresql:responseTime"

Row = Mapping[str, Any]


class Connection(Protocol):
    """The part of asyncpg's connection the services use (asyncpg ships no types)."""

    async def execute(self, query: str, *args: object) -> str: ...

    async def fetch(self, query: str, *args: object) -> list[Row]: ...

    async def fetchrow(self, query: str, *args: object) -> Row | None: ...

    async def fetchval(self, query: str, *args: object) -> Any: ...


class UniqueViolationError(Exception):
    """A row with the same unique key is already there."""


class _ForMigrations:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def execute(self, query: str, *args: object) -> object:
        return await self._connection.execute(query, *args)

    async def rows(self, query: str, *args: object) -> list[tuple[object, ...]]:
        return [tuple(row) for row in await self._connection.fetch(query, *args)]


class Database:
    """One service's schema in PostgreSQL. A failure to reach it is `UnavailableError` (503), never a 500."""

    def __init__(self, kit: Instrumentation, *, schema: str, migrations: Path) -> None:
        self._kit = kit
        self._settings = kit.settings
        self._schema = schema
        self._migrations = read_migrations(migrations)
        self._migrated = False
        self._problem = "not connected yet"
        self._pool: Any = None  # asyncpg.Pool; asyncpg ships no types
        metrics = kit.metrics
        self._duration = metrics.histogram(
            "db_client_operation_duration_seconds",
            "Duration of database operations.",
            ("db_system_name", "db_operation_name", "error_type"),
        )
        connections = metrics.gauge(
            "db_client_connection_count", "Connections of the pool.", ("db_client_connection_state",)
        )
        connections.labels("idle").set_function(lambda: self._pool.get_idle_size() if self._pool else 0)
        connections.labels("used").set_function(
            lambda: self._pool.get_size() - self._pool.get_idle_size() if self._pool else 0
        )
        metrics.gauge("db_client_connection_max", "Most connections the pool opens.").set(
            kit.settings.pool_max
        )
        self._pending = metrics.gauge(
            "db_client_connection_pending_requests", "Requests waiting for a connection."
        )
        self._timeouts = metrics.counter(
            "db_client_connection_timeouts_total", "Requests that waited for a connection in vain."
        )
        self._wait = metrics.histogram(
            "db_client_connection_wait_time_seconds", "Time to obtain a connection."
        )
        kit.depends_on(
            Dependency(
                name=HEALTH,
                component_type="datastore",
                criticality=Criticality.REQUIRED,
                probe=self._probe,
                own=True,
            )
        )
        kit.health.add_startup(lambda: None if self._migrated else "the database's migrations")
        kit.in_background("database", self._connect)
        kit.on_close(self._close)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection for one unit of work. Raises UnavailableError."""
        connection = await self._acquire()
        try:
            yield connection
        finally:
            # A release that waits for a dead server must not hold up the caller.
            await self._pool.release(connection, timeout=_CONNECT_S)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """The same inside a transaction: committed at the end of the block, rolled back by an exception."""
        async with (
            self.connection() as connection,
            self._measured("transaction"),
            cast("Any", connection).transaction(),
        ):
            yield connection

    async def execute(self, query: str, *args: object) -> str:
        async with self.connection() as connection, self._measured(_verb(query)):
            return await connection.execute(query, *args)

    async def fetch(self, query: str, *args: object) -> list[Row]:
        async with self.connection() as connection, self._measured(_verb(query)):
            return await connection.fetch(query, *args)

    async def fetchrow(self, query: str, *args: object) -> Row | None:
        async with self.connection() as connection, self._measured(_verb(query)):
            return await connection.fetchrow(query, *args)

    async def _acquire(self) -> Connection:
        if self._pool is None or not self._migrated:
            raise self._unavailable(self._problem)
        import asyncpg

        start_s = time.monotonic()
        self._pending.inc()
        try:
            return cast("Connection", await self._pool.acquire(timeout=_ACQUIRE_S))
        except TimeoutError as error:
            self._timeouts.inc()
            raise self._unavailable("no connection within 1 s") from error
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise self._unavailable(type(error).__name__) from error
        finally:
            self._pending.dec()
            self._wait.observe((), time.monotonic() - start_s)

    @asynccontextmanager
    async def _measured(self, operation: str) -> AsyncIterator[None]:
        import asyncpg

        start_s = time.monotonic()
        error_type = ""
        with self._kit.tracer.span(f"{operation} {self._schema}", Kind.CLIENT) as span:
            if span.recording:
                span.set("db.system.name", "postgresql")
                span.set("db.operation.name", operation)
                span.set("db.namespace", self._schema)
            try:
                yield
            except asyncpg.UniqueViolationError as error:
                error_type = error.sqlstate
                raise UniqueViolationError(error.constraint_name) from error
            except (
                OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError,
                asyncpg.OperatorInterventionError, asyncpg.InsufficientResourcesError,
                asyncpg.ReadOnlySQLTransactionError, asyncpg.InternalClientError,
            ) as error:  # fmt: skip
                error_type = getattr(error, "sqlstate", None) or type(error).__name__
                raise self._unavailable(type(error).__name__) from error
            except Exception as error:
                error_type = getattr(error, "sqlstate", None) or type(error).__name__
                raise
            finally:
                if error_type:
                    span.fail(error_type)
                self._duration.observe(("postgresql", operation, error_type), time.monotonic() - start_s)

    def _unavailable(self, why: str) -> UnavailableError:
        self._kit.health.suspect(HEALTH)
        return UnavailableError(f"the database cannot be used now ({why})", reason="database_unavailable")

    async def _connect(self) -> None:
        """Open the pool and apply the migrations, trying until it works; then the pool minds itself."""
        import asyncpg

        url = self._settings.database_url
        if url is None:
            self._problem = "DATABASE_URL is not set"
            logger.error("database.not_configured")
            await asyncio.Event().wait()
            return
        attempt = 0
        while not self._migrated:
            try:
                if self._pool is None:
                    self._pool = await self._open(url.reveal())
                await self._migrate()
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                self._problem = type(error).__name__
                if attempt in {0, 10} or attempt % 60 == 0:
                    logger.warning(
                        "database.unreachable", extra={"error": type(error).__name__, "attempt": attempt}
                    )
                await asyncio.sleep(_RETRY_S[min(attempt, len(_RETRY_S) - 1)])
                attempt += 1
            except MigrationError as error:
                # No retry mends this: the code is wrong, and /startupz says so until it is replaced.
                self._problem = str(error)
                logger.exception("database.migration_refused")
                await asyncio.Event().wait()
        self._kit.health.suspect(HEALTH)
        await asyncio.Event().wait()

    async def _open(self, url: str) -> Any:
        import asyncpg

        return await asyncpg.create_pool(
            url,
            min_size=self._settings.pool_min,
            max_size=self._settings.pool_max,
            timeout=_CONNECT_S,
            command_timeout=_QUERY_S,
            max_inactive_connection_lifetime=300.0,
            # A transaction pooler hands each statement to another session: nothing may be prepared there.
            statement_cache_size=0 if self._settings.database_pooled else 100,
            server_settings={
                "application_name": f"gaia-{self._settings.service}",
                "search_path": f"{self._schema},public",
            },
            init=self._watch_connection,
        )

    async def _watch_connection(self, connection: Any) -> None:
        # A killed server is known at once, not at the next round of checks.
        connection.add_termination_listener(lambda _: self._kit.health.suspect(HEALTH))

    async def _migrate(self) -> None:
        import asyncpg

        url = self._settings.migrations_url
        assert url is not None
        connection = await asyncpg.connect(url.reveal(), timeout=_CONNECT_S, command_timeout=60.0)
        try:
            applied = await migrate(_ForMigrations(connection), self._schema, self._migrations)
        finally:
            await connection.close(timeout=_CONNECT_S)
        if applied:
            logger.info("database.migrated", extra={"migrations": applied})
        # Connections opened before the schema existed resolve it now: search_path is looked up per statement.
        self._migrated = True

    async def _probe(self) -> Reading:
        if self._pool is None or not self._migrated:
            return Reading(status=Status.FAIL, output=self._problem)
        start_s = time.monotonic()
        connection = await self._acquire()
        try:
            await connection.fetchval("select 1")
        finally:
            await self._pool.release(connection, timeout=_CONNECT_S)
        return Reading(status=Status.PASS, value=round((time.monotonic() - start_s) * 1000, 3))

    async def _close(self) -> None:
        if self._pool is None:
            return
        try:
            async with asyncio.timeout(_CONNECT_S):
                await self._pool.close()
        except (OSError, TimeoutError):
            self._pool.terminate()


def _verb(query: str) -> str:
    return query.lstrip()[:8].split(None, 1)[0].upper()
