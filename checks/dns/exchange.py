"""One question to one name server: UDP, and TCP when the answer did not fit."""

from __future__ import annotations

import asyncio
import math
import os
import socket
import time

from checks.dns.packet import Message, PacketError, encode_question, parse_message
from checks.finding import Phase
from checks.reason import Reason
from checks.wire.dial import connect
from checks.wire.fault import Fault, fault_of
from checks.wire.journey import Journey
from checks.wire.look import spell


async def ask(
    server: str, port: int, *, name: str, record_type: str, transport: str, recursion: bool, journey: Journey
) -> Message:
    """The server's answer to our question. Raises Fault and DeadlinePassed."""
    identity = int.from_bytes(os.urandom(2), "big")
    question = encode_question(name, record_type, identity=identity, recursion=recursion)
    wanted = (name.rstrip(".").lower(), record_type)
    if transport == "udp":
        journey.begin(Phase.PROCESSING)
        journey.ip = server
        started_s = time.monotonic()
        message = await _by_udp(server, port, question, identity, wanted, journey)
        journey.end(time.monotonic() - started_s)
        if not message.truncated:
            return message
        journey.note("truncated", "asked again over TCP")
    return await _by_tcp(server, port, question, identity, wanted, journey)


async def _by_udp(
    server: str, port: int, question: bytes, identity: int, wanted: tuple[str, str], journey: Journey
) -> Message:
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    loop = asyncio.get_running_loop()
    asked_s = time.monotonic()
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        try:
            # Connected: packets of others never arrive, and a closed port is told as refused.
            sock.connect((server, port))
            sock.send(question)
            async with asyncio.timeout_at(None if journey.deadline_s == math.inf else journey.deadline_s):
                while True:
                    data = await loop.sock_recv(sock, 65535)
                    message = _matching(data, identity, wanted)
                    if message is not None:
                        return message
                    # RFC 5452 section 9.1: what does not match was never asked for; keep waiting.
                    journey.note("stray answer", "an answer that does not match the question was ignored")
        except TimeoutError as error:
            # Whether the question arrived is not known: UDP acknowledges nothing.
            waited = spell(time.monotonic() - asked_s)
            said = f"sent no answer over UDP for {waited} (processing unfinished)"
            raise Fault(Reason.TIMEOUT, said) from error
        except OSError as error:
            raise fault_of(error, Phase.PROCESSING) from error


def _matching(data: bytes, identity: int, wanted: tuple[str, str]) -> Message | None:
    """The message when it answers our question. Raises Fault when it does but cannot be read."""
    if int.from_bytes(data[:2], "big") != identity:
        return None
    try:
        message = parse_message(data)
    except PacketError as error:
        raise Fault(Reason.PROTOCOL, f"sends an answer that is no DNS message ({error})") from error
    if not message.response or (message.question is not None and message.question != wanted):
        return None
    return message


async def _by_tcp(
    server: str, port: int, question: bytes, identity: int, wanted: tuple[str, str], journey: Journey
) -> Message:
    """RFC 7766: the same message behind its length."""
    wire = await connect((server,), port, journey)
    journey.begin(Phase.PROCESSING)
    started_s = time.monotonic()
    try:
        await wire.send(len(question).to_bytes(2, "big") + question)
        data = b""
        while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
            more = await wire.receive()
            if not more:
                raise Fault(Reason.INCOMPLETE_BODY, "ended the TCP connection before its whole answer")
            data += more
    except OSError as error:
        raise fault_of(error, Phase.PROCESSING) from error
    finally:
        wire.close()
    journey.end(max(0.0, wire.arrived_s - started_s))
    message = _matching(data[2 : 2 + int.from_bytes(data[:2], "big")], identity, wanted)
    if message is None:
        raise Fault(Reason.PROTOCOL, "answers another question than the one that was asked")
    return message
