from __future__ import annotations

import asyncio

from agent.local.events import Happening, happenings

_HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


async def test_events_are_read_over_a_restart_of_the_agent_from_the_last_one_on() -> None:
    asked: list[bytes] = []

    async def agent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        number = len(asked)
        writer.write(_HEAD + b": hello\n\nretry: 1000\n\n")
        writer.write(f'id: {number}\nevent: target\ndata: {{"kind": "target", "seq": {number},\n'.encode())
        writer.write(b'data:  "subject": "nats", "state": "down", "text": "refused", "more": 1}\n\n')
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(agent, "127.0.0.1", 0)
    async with server:
        stream = happenings(server.sockets[0].getsockname()[1])
        async with asyncio.timeout(5):
            got = [await anext(stream), await anext(stream)]
    assert got == [
        Happening(seq=number, kind="target", subject="nats", state="down", text="refused")
        for number in (1, 2)
    ]
    assert b"Last-Event-ID" not in asked[0]
    assert b"\r\nLast-Event-ID: 1\r\n" in asked[1]


async def test_other_answers_and_broken_lines_are_ignored() -> None:
    answers = iter((b"HTTP/1.0 503 No\r\n\r\n", b"gibberish", _HEAD + b"data: {broken\n\ndata: {}\n\n"))

    async def agent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(next(answers))
        writer.close()

    server = await asyncio.start_server(agent, "127.0.0.1", 0)
    async with server, asyncio.timeout(5):
        stream = happenings(server.sockets[0].getsockname()[1])
        assert await anext(stream) == Happening()
