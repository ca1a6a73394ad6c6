"""A service to watch: answers every GET with a health document, on a kept connection, in one process."""

from __future__ import annotations

import asyncio
import sys

_BODY = b'{"status": "pass", "version": "1.0.0"}'
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/health+json\r\nContent-Length: %d\r\n\r\n%s" % (
    len(_BODY),
    _BODY,
)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(_ANSWER)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _main(port: int) -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))
