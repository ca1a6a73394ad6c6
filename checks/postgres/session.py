"""The held session: the one place that speaks asyncpg, imported when the first session opens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from checks.catalog import Resolver
from checks.postgres.knock import APPLICATION
from checks.postgres.place import Place
from checks.postgres.wire import ServerError

if TYPE_CHECKING:
    import asyncpg

_CANCEL_WITHIN_S: Final = 1.0
# Not the empty statement, over whose answer the driver stumbles.
_ALIVE: Final = "SELECT 1"
_OPENED: Final = "SELECT current_setting('transaction_read_only')"


class QueryRefusedError(Exception):
    """The server answered with an error; `error` says which."""

    def __init__(self, error: ServerError) -> None:
        super().__init__(f"{error.sqlstate} {error.message}")
        self.error = error


class Session:
    """At most one connection to one server, shared by a check and its sentinel.

    One operation runs at a time. Anything but an answered query closes the connection, since a late answer
    would be taken for the next one's. Nothing is SET: behind a pooler a setting would stay on a connection
    that others are given next; what is asked are constant SELECTs, and the role may change nothing.
    """

    def __init__(self, place: Place, resolver: Resolver) -> None:
        self.place = place
        self.resolver = resolver
        self._connection: asyncpg.Connection | None = None
        self._turn = asyncio.Lock()
        self._listeners: list[Callable[[], None]] = []
        self.fresh_read_only = False
        self.silent = False
        # The sentinel's word that new connections hang while this one answers.
        self.stalled = False
        # And that nobody was let in at its last knock, while no session is held.
        self.away = False

    def load(self) -> None:
        """Import the driver, 45 ms, once: nobody's latency."""
        import asyncpg  # noqa: F401 - the import is the effect.

    @property
    def is_open(self) -> bool:
        return self._connection is not None and not self._connection.is_closed()

    @property
    def is_busy(self) -> bool:
        """Whether an operation is under way, which is a better witness than a heartbeat."""
        return self._turn.locked()

    def on_lost(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever an open connection ends without our closing it."""
        self._listeners.append(listener)

    def forget(self, listener: Callable[[], None]) -> None:
        self._listeners.remove(listener)

    async def ensure_open(self, *, speaks_tls: bool, within_s: float) -> None:
        """Log in if not connected. Raises QueryRefusedError, OSError (TLS too) or TimeoutError."""
        async with self._turn, asyncio.timeout(within_s):
            if self.is_open:
                return
            import asyncpg  # Not at the top: a server that is down is named before it is needed.

            try:
                self._connection = await self._connect(speaks_tls=speaks_tls)
                self.fresh_read_only = await self._connection.fetchval(_OPENED) == "on"
            except asyncpg.PostgresError as error:
                self._drop()
                raise QueryRefusedError(_server_error(error)) from error
            except (asyncpg.InterfaceError, EOFError) as error:
                self._drop()
                raise ConnectionResetError(str(error)) from error
            except BaseException:
                self._drop()
                raise
            self._connection.add_termination_listener(self._lost)
            self.silent = False

    async def text(self, sql: str, *, within_s: float, cancel: bool = False) -> str | None:
        """The single value of the single row of `sql`. Raises as `ensure_open` does.

        `cancel`: when time is up, tell the server to stop and keep the session. A commit that waits for a
        standby would otherwise keep its backend for ever, since it does not notice that its client is gone.
        """
        import asyncpg

        async with self._turn:
            connection = self._connection
            if connection is None:
                raise ConnectionResetError("the held session is closed")
            try:
                async with asyncio.timeout(within_s):
                    value = await connection.fetchval(sql)
            except asyncpg.PostgresError as error:
                raise QueryRefusedError(_server_error(error)) from error
            except asyncpg.InterfaceError as error:
                self._drop()
                raise ConnectionResetError(str(error)) from error
            except TimeoutError:
                if not (cancel and await self._recovers(connection)):
                    self._drop()
                raise
            except BaseException:
                self._drop()
                raise
            self.silent = False
            return None if value is None else str(value)

    async def answers(self, *, within_s: float) -> bool:
        """A heartbeat: whether the session answers in time; it is dropped when it does not."""
        connection = self._connection
        if connection is None:
            return False
        async with self._turn:
            asked = asyncio.ensure_future(connection.execute(_ALIVE))
            done, _ = await asyncio.wait({asked}, timeout=within_s)
            if not done:
                self.silent = True
                asked.cancel()
                self._drop()
                return False
            self.silent = asked.exception() is not None
            return not self.silent

    async def close(self) -> None:
        """Say goodbye and close; within half a second even when the server is silent."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.remove_termination_listener(self._lost)
        try:
            async with asyncio.timeout(0.5):
                await connection.close()
        except (OSError, TimeoutError):
            connection.terminate()

    async def _connect(self, *, speaks_tls: bool) -> asyncpg.Connection:
        import asyncpg

        place = self.place
        host = place.host
        encrypted = speaks_tls and place.tls != "disable"
        if not host.startswith("/") and not (encrypted and place.tls == "verify-full"):
            # The shared resolver is bounded; the driver's own occupies threads. A name to verify must stay.
            host = (await self.resolver.addresses(host))[0]
        return await asyncpg.connect(
            host=host,
            port=place.port,
            user=place.user,
            password=place.password.reveal() or None,
            database=place.database,
            ssl=place.tls_context() if encrypted else False,
            statement_cache_size=0,
            server_settings={"application_name": APPLICATION},
        )

    async def _recovers(self, connection: asyncpg.Connection) -> bool:
        # The driver has sent the cancel request and makes the next statement wait for its effect.
        try:
            async with asyncio.timeout(_CANCEL_WITHIN_S):
                await connection.execute(_ALIVE)
        except Exception:
            return False
        return True

    def _lost(self, _connection: object) -> None:
        self._connection = None
        for listener in tuple(self._listeners):
            listener()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.remove_termination_listener(self._lost)
            connection.terminate()


def _server_error(error: asyncpg.PostgresError) -> ServerError:
    return ServerError(
        sqlstate=error.sqlstate or "",
        message=str(error.message or ""),
        detail=str(error.detail or ""),
        routine=str(getattr(error, "server_source_function", "") or ""),
    )
