"""Certificates made on the spot: an authority, and every way a server's certificate can be wrong."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Signed:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def pem(self, *chain: Signed) -> bytes:
        """Certificate, the rest of the chain, and the key, as OpenSSL loads them."""
        form = serialization.PrivateFormat.PKCS8
        key = self.key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        certificates = b"".join(
            one.certificate.public_bytes(serialization.Encoding.PEM) for one in (self, *chain)
        )
        return certificates + key

    def save(self, folder: Path, name: str, *chain: Signed) -> str:
        path = folder / f"{name}.pem"
        path.write_bytes(self.pem(*chain))
        return str(path)


def name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)] if common else [])


def sign(
    common: str,
    *,
    by: Signed | None = None,
    hosts: tuple[str, ...] = ("localhost",),
    starts: timedelta = -DAY,
    ends: timedelta = 365 * DAY,
    authority: bool = False,
) -> Signed:
    """A certificate for `hosts` signed by `by`, or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    issuer = by.certificate.subject if by is not None else name(common)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(common))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + starts)
        .not_valid_after(now + ends)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if hosts and not authority:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_general(host) for host in hosts]), critical=False
        )
    signer = by.key if by is not None else key
    return Signed(builder.sign(signer, hashes.SHA256()), key)


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
