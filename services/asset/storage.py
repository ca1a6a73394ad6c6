"""Where content lies: a seam with two sides, a directory and an S3-compatible bucket."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Protocol, TypeVar

from services.instrumentation.problem import ProblemError, UnavailableError

_PIECE: Final = 256 * 1024
_THREADS: Final = 4

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stored:
    """What was written: its size and the SHA-256 of exactly those bytes."""

    size_bytes: int
    sha256: str


class Storage(Protocol):
    """Holds content by key. Every method raises UnavailableError when the place cannot be reached."""

    async def put(self, key: str, pieces: AsyncIterator[bytes], *, limit_bytes: int) -> Stored:
        """Store all pieces or nothing. Raises ProblemError 413 above the limit."""
        ...

    def get(self, key: str, *, start: int, length: int) -> AsyncIterator[bytes]:
        """`length` bytes from `start`. Raises KeyError when there is no such content."""
        ...

    async def delete(self, key: str) -> None:
        """Remove; nothing happens when it is not there."""
        ...

    async def check(self) -> None:
        """Prove that content could be written and read."""
        ...


def too_large(limit_bytes: int) -> ProblemError:
    return ProblemError(413, f"an asset may be {limit_bytes} bytes at most", reason="too_large")


class DirectoryStorage:
    """Content in files: written beside and renamed, synced before it counts, in threads of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="storage")

    async def put(self, key: str, pieces: AsyncIterator[bytes], *, limit_bytes: int) -> Stored:
        digest = hashlib.sha256()
        size = 0
        path = self._path(key)
        file = await self._run(lambda: self._begin(path))
        try:
            async for piece in pieces:
                size += len(piece)
                if size > limit_bytes:
                    raise too_large(limit_bytes)  # noqa: TRY301 (the clean-up below is for this too)
                digest.update(piece)
                await self._run(lambda piece=piece: file.write(piece))  # type: ignore[misc]
            await self._run(lambda: _finish(file, path))
        except BaseException:
            # A name that nothing points to yet: cancelled or not, it must not stay.
            file.close()
            Path(file.name).unlink(missing_ok=True)  # noqa: ASYNC240 (a cancelled task may not await)
            raise
        return Stored(size, digest.hexdigest())

    async def get(self, key: str, *, start: int, length: int) -> AsyncIterator[bytes]:
        path = self._path(key)
        try:
            file = await self._run(lambda: path.open("rb"))
        except FileNotFoundError as error:
            raise KeyError(key) from error
        try:
            await self._run(lambda: file.seek(start))
            while length > 0:
                wanted = min(_PIECE, length)
                piece = await self._run(lambda wanted=wanted: file.read(wanted))  # type: ignore[misc]
                if not piece:
                    raise UnavailableError("the content is shorter than it was", reason="content_damaged")
                length -= len(piece)
                yield piece
        finally:
            file.close()

    async def delete(self, key: str) -> None:
        path = self._path(key)
        await self._run(lambda: path.unlink(missing_ok=True))

    async def check(self) -> None:
        await self._run(lambda: self._begin(self._folder / "check").close())
        for left in self._folder.glob("check*.part"):
            left.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        # Two levels, so that no directory grows without end. Keys are our own UUIDs.
        return self._folder / key[:2] / key

    def _begin(self, path: Path) -> IO[bytes]:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, suffix=".part", delete=False)

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise UnavailableError(
                f"the storage cannot be used now ({type(error).__name__})", reason="storage_unavailable"
            ) from error


def _finish(file: IO[bytes], path: Path) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()
    Path(file.name).rename(path)
