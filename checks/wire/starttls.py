"""From plain text to TLS on the same connection, as PostgreSQL and SMTP do it."""

from __future__ import annotations

from typing import Final, Literal

from checks.reason import Reason
from checks.wire.fault import Fault
from checks.wire.lines import LineReader
from checks.wire.stream import Wire

StartTls = Literal["postgres", "smtp"]

# https://www.postgresql.org/docs/current/protocol-message-formats.html: SSLRequest.
_SSL_REQUEST: Final = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"


async def start_tls(wire: Wire, protocol: StartTls) -> None:
    """Ask for TLS; afterwards the handshake may begin. Raises Fault and OSError."""
    if protocol == "postgres":
        await _postgres(wire)
    else:
        await _smtp(wire)


async def _postgres(wire: Wire) -> None:
    await wire.send(_SSL_REQUEST)
    answer = await wire.receive()
    if not answer:
        raise Fault(Reason.CONNECTION_CLOSED, "closed the connection when asked for TLS", hard=True)
    if answer == b"N":
        raise Fault(Reason.NOT_TLS, "is a PostgreSQL that offers no TLS")
    # More than the one byte would be plain text smuggled in front of the handshake (CVE-2021-23222).
    if answer != b"S":
        raise Fault(Reason.PROTOCOL, "does not answer like PostgreSQL when asked for TLS")


async def _smtp(wire: Wire) -> None:
    reader = LineReader(wire)
    await _reply(reader, "220", "greet")
    await wire.send(b"EHLO gaia-agent\r\n")
    features = await _reply(reader, "250", "answer EHLO")
    if not any(line[4:].strip().upper() == "STARTTLS" for line in features):
        raise Fault(Reason.NOT_TLS, "is a mail server that offers no STARTTLS")
    await wire.send(b"STARTTLS\r\n")
    await _reply(reader, "220", "agree to STARTTLS")
    if reader.pending:
        raise Fault(Reason.PROTOCOL, "sent plain text after it agreed to TLS")


async def _reply(reader: LineReader, code: str, deed: str) -> list[str]:
    """RFC 5321 section 4.2.1: a reply of several lines has a hyphen after the code in all but the last."""
    lines: list[str] = []
    while True:
        line = await reader.line()
        if line is None:
            raise Fault(Reason.CONNECTION_CLOSED, f"closed the connection instead of {deed}ing", hard=True)
        lines.append(line)
        if not line.startswith(code):
            raise Fault(Reason.PROTOCOL, f'does not {deed} as a mail server: "{line[:80]}"')
        if line[3:4] != "-":
            return lines
