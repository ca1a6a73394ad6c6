"""Entering by key: the JWT and the signed nonce of a `.creds` file or a bare nkey seed."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct, field

from checks.secret import Secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_BLOCK: Final = re.compile(r"-----BEGIN [^-]+-----\s*(.+?)\s*------?END [^-]+------?", re.DOTALL)
_SEED_BYTES: Final = 32


class Credentials(Struct, frozen=True, kw_only=True):
    """A user's JWT (may be empty for a bare nkey) and the seed that signs the server's nonce."""

    jwt: Secret = field(default_factory=lambda: Secret(""))
    seed: Secret

    def sign(self, nonce: str) -> str:
        """The nonce's Ed25519 signature, URL-safe base64 without padding."""
        return base64.urlsafe_b64encode(_key(self.seed).sign(nonce.encode())).rstrip(b"=").decode()

    def public_key(self) -> str:
        """The nkey's public half as NATS writes it (`U...`)."""
        raw = bytes([20 << 3]) + _key(self.seed).public_key().public_bytes_raw()
        return base64.b32encode(raw + _crc16(raw).to_bytes(2, "little")).rstrip(b"=").decode()


def read_credentials(path: str) -> Credentials:
    """A `.creds` file (JWT and seed) or a file with a seed alone. Raises OSError or ValueError."""
    text = Path(path).read_text(encoding="utf-8")
    blocks = _BLOCK.findall(text)
    if len(blocks) >= 2:
        return Credentials(jwt=Secret(blocks[0].strip()), seed=Secret(blocks[1].strip()))
    seed = text.strip()
    if not seed.startswith("SU"):
        raise ValueError(f"{path} holds neither a .creds pair nor a user's nkey seed")
    return Credentials(seed=Secret(seed))


def _key(seed: Secret) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    text = seed.reveal()
    raw = base64.b32decode(text + "=" * (-len(text) % 8))
    # Two bytes of prefix, the seed, two bytes of checksum.
    return Ed25519PrivateKey.from_private_bytes(raw[2 : 2 + _SEED_BYTES])


def _crc16(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1
        crc &= 0xFFFF
    return crc
