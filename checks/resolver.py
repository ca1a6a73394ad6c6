"""Names to addresses without threads or surprises: literals and /etc/hosts at once, DNS bounded and cached.

The event loop's own resolver is a small pool of threads in which a few hung look-ups stop everybody; here
each look-up stands alone, has one deadline, is shared by all who ask for the name, and is kept for its TTL.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    import aiodns

_HOSTS: Final = Path("/etc/hosts")
_HOSTS_CHECKED_EVERY_S: Final = 5.0
_DEADLINE_S: Final = 5.0
_LONGEST_KEPT_S: Final = 60.0
_FAILURE_KEPT_S: Final = 1.0
_MOST_PENDING: Final = 512
_MOST_KEPT: Final = 20_000
# RFC 6761 section 6.3: localhost never goes to a name server.
_LOCALHOST: Final = ("127.0.0.1", "::1")

# ares.h, ARES_*.
_ABSENCES: Final = {1: "the name has no address", 4: "the name does not exist", 19: "the name does not exist"}
_REFUSALS: Final = {
    2: "the question was malformed",
    3: "the name server failed",
    6: "the name server refused",
    8: "the name is not valid",
    10: "the answer is malformed",
    11: "no name server could be reached",
    12: "no name server answered in time",
}


class _Kept(Struct, frozen=True, kw_only=True):
    until_s: float
    addresses: tuple[str, ...]
    error: socket.gaierror | None = None


class CachingResolver:
    """The `Resolver` of a process. Belongs to one event loop."""

    def __init__(
        self,
        *,
        nameservers: tuple[str, ...] = (),
        deadline_s: float = _DEADLINE_S,
        hosts: Path = _HOSTS,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nameservers = nameservers
        self._deadline_s = deadline_s
        self._monotonic_s = monotonic_s
        self._hosts = _HostsFile(hosts)
        self._kept: dict[str, _Kept] = {}
        self._pending: dict[str, asyncio.Task[tuple[str, ...]]] = {}
        self._channel: aiodns.DNSResolver | None = None
        self._opening: asyncio.Future[aiodns.DNSResolver] | None = None

    async def addresses(self, host: str) -> tuple[str, ...]:
        """IP addresses of `host`, in order of preference. Raises socket.gaierror."""
        known = self.known(host)
        if known is not None:
            return known
        name = _plain(host)
        task = self._pending.get(name)
        if task is None:
            if len(self._pending) >= _MOST_PENDING:
                raise socket.gaierror(socket.EAI_AGAIN, f"{_MOST_PENDING} look-ups are pending already")
            task = asyncio.create_task(self._look_up(name), name=f"resolve {name}")
            self._pending[name] = task
            task.add_done_callback(lambda done: self._finished(name, done))
        # Shared: one asker who gives up must not take the answer from the others.
        return await asyncio.shield(task)

    def known(self, host: str) -> tuple[str, ...] | None:
        """Known by itself, from an earlier answer or from /etc/hosts. Raises socket.gaierror."""
        name = _plain(host)
        literal = _literal(name)
        if literal is not None:
            return (literal,)
        now_s = self._monotonic_s()
        kept = self._kept.get(name)
        if kept is not None and now_s < kept.until_s:
            if kept.error is not None:
                raise socket.gaierror(*kept.error.args)
            return kept.addresses
        listed = self._hosts.addresses(name, now_s)
        if listed:
            return listed
        if name == "localhost" or name.endswith(".localhost"):
            return _LOCALHOST
        return None

    def _finished(self, name: str, task: asyncio.Task[tuple[str, ...]]) -> None:
        self._pending.pop(name, None)
        if not task.cancelled():
            task.exception()  # nobody may be waiting any more

    async def _look_up(self, name: str) -> tuple[str, ...]:
        try:
            async with asyncio.timeout(self._deadline_s):
                addresses, ttl_s = await self._ask(name)
        except TimeoutError:
            failure = socket.gaierror(
                socket.EAI_AGAIN, f"no name server answered within {self._deadline_s:g} s"
            )
        except socket.gaierror as error:
            failure = error
        else:
            self._keep(name, addresses, min(ttl_s, _LONGEST_KEPT_S))
            return addresses
        self._keep(name, (), _FAILURE_KEPT_S, failure)
        raise failure

    def _keep(
        self, name: str, addresses: tuple[str, ...], for_s: float, error: socket.gaierror | None = None
    ) -> None:
        if len(self._kept) >= _MOST_KEPT:
            self._kept.pop(next(iter(self._kept)))
        self._kept[name] = _Kept(until_s=self._monotonic_s() + for_s, addresses=addresses, error=error)

    async def _ask(self, name: str) -> tuple[tuple[str, ...], float]:
        channel = await self._open()
        from aiodns.error import DNSError

        try:
            found = await channel.getaddrinfo(name, family=socket.AF_UNSPEC, type=socket.SOCK_STREAM)
        except DNSError as error:
            raise _failure(error.args[0]) from error
        addresses = tuple(dict.fromkeys(_decoded(node.addr[0]) for node in found.nodes))
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "the name has no address")
        return addresses, float(min(node.ttl for node in found.nodes))

    async def _open(self) -> aiodns.DNSResolver:
        if self._channel is None:
            if self._opening is None:
                loop = asyncio.get_running_loop()
                # Importing c-ares takes 0.1 s and more: not on the loop, where every probe would be late.
                thread = ThreadPoolExecutor(1, thread_name_prefix="gaia-resolver")
                self._opening = loop.run_in_executor(thread, self._make_channel, loop)
                thread.shutdown(wait=False)
            self._channel = await asyncio.shield(self._opening)
        return self._channel

    def _make_channel(self, loop: asyncio.AbstractEventLoop) -> aiodns.DNSResolver:
        import aiodns

        timeout_s = min(2.0, self._deadline_s / 2)
        return aiodns.DNSResolver(
            nameservers=self._nameservers or None, loop=loop, timeout=timeout_s, tries=2
        )

    async def close(self) -> None:
        """Give up what is pending and close the sockets."""
        for task in tuple(self._pending.values()):
            task.cancel()
        await asyncio.gather(*self._pending.values(), return_exceptions=True)
        if self._channel is not None:
            await self._channel.close()
            self._channel = None


class _HostsFile:
    """/etc/hosts, read again when it changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names: dict[str, tuple[str, ...]] = {}
        self._changed_ns = -1
        self._checked_s = float("-inf")

    def addresses(self, name: str, now_s: float) -> tuple[str, ...]:
        if now_s - self._checked_s >= _HOSTS_CHECKED_EVERY_S:
            self._checked_s = now_s
            self._refresh()
        return self._names.get(name, ())

    def _refresh(self) -> None:
        try:
            changed_ns = self._path.stat().st_mtime_ns
            if changed_ns != self._changed_ns:
                self._names = _parse_hosts(self._path.read_text(encoding="utf-8", errors="replace"))
                self._changed_ns = changed_ns
        except OSError:
            self._names, self._changed_ns = {}, -1


def _parse_hosts(text: str) -> dict[str, tuple[str, ...]]:
    names: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        address, *aliases = line.partition("#")[0].split() or [""]
        if _literal(address) is None:
            continue
        for alias in aliases:
            key = alias.lower().rstrip(".")
            names[key] = (*names.get(key, ()), address)
    return names


def _plain(host: str) -> str:
    return host.rstrip(".").lower()


def _literal(name: str) -> str | None:
    try:
        ip_address(name.partition("%")[0])
    except ValueError:
        return None
    return name


def _decoded(address: bytes | str) -> str:
    return address.decode("ascii") if isinstance(address, bytes) else address


def _failure(code: int) -> socket.gaierror:
    """The gaierror for a c-ares status (ares.h)."""
    if code in _ABSENCES:
        return socket.gaierror(socket.EAI_NONAME, _ABSENCES[code])
    return socket.gaierror(socket.EAI_AGAIN, _REFUSALS.get(code, f"the look-up failed (c-ares {code})"))
