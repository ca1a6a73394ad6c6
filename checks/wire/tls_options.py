"""How a TLS connection is made: the `tls` table of a check, and the one context built from it."""

from __future__ import annotations

import ssl
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

import msgspec

from checks.units import Duration

_NO_FILES: Final = (None, None, None)
Version = Literal["1.0", "1.1", "1.2", "1.3"]

_VERSIONS: Final = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}


class TlsOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `tls` table. Files are paths to PEM; `expires_within` is when a valid chain becomes a warning."""

    verify: bool = True
    ca_file: str | None = None
    server_name: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    min_version: Version = "1.2"
    max_version: Version | None = None
    ciphers: str | None = None
    expires_within: Duration = Duration(21 * 86400)
    expires_soon: Duration = Duration(7 * 86400)


def context_of(options: TlsOptions) -> ssl.SSLContext:
    """The context for `options`; a file that has changed is read again.

    Raises ssl.SSLError, OSError (unreadable file) and ValueError, each naming what is wrong.
    """
    return _context(options, _stamps(options))


def unverified_context_of(options: TlsOptions) -> ssl.SSLContext:
    """The same without verification, for reading a chain that did not verify."""
    return _unverified_context(options, _stamps(options))


def _stamps(options: TlsOptions) -> tuple[int, ...]:
    """When each file was last changed: certificates are renewed while the agent runs."""
    files = (options.ca_file, options.client_certificate, options.client_key)
    if files == _NO_FILES:
        return ()
    stamps = []
    for file in files:
        if file is not None:
            try:
                stamps.append(Path(file).stat().st_mtime_ns)
            except OSError as error:
                raise OSError(error.errno, f"{file}: {error.strerror}") from error
    return tuple(stamps)


@lru_cache(maxsize=64)
def _context(options: TlsOptions, stamps: tuple[int, ...]) -> ssl.SSLContext:
    """Built once: loading the system's authorities takes 26 ms."""
    del stamps
    try:
        context = ssl.create_default_context(cafile=options.ca_file)
    except ssl.SSLError as error:
        raise ValueError(f"{options.ca_file} is no file of certificates in PEM") from error
    # RFC 9525: a certificate names its hosts in the SAN only; OpenSSL still falls back on the common name.
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(["http/1.1"])
    return _configured(context, options)


@lru_cache(maxsize=64)
def _unverified_context(options: TlsOptions, stamps: tuple[int, ...]) -> ssl.SSLContext:
    del stamps
    return _configured(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), options, verify=False)


def _configured(context: ssl.SSLContext, options: TlsOptions, *, verify: bool = True) -> ssl.SSLContext:
    if not (options.verify and verify):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    # Some builds take a cut connection for its proper end: a body that ends with it would pass as whole.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", ssl.Options(0))
    context.minimum_version = _VERSIONS[options.min_version]
    if options.max_version is not None:
        context.maximum_version = _VERSIONS[options.max_version]
    if options.ciphers is not None:
        try:
            context.set_ciphers(options.ciphers)
        except ssl.SSLError as error:
            raise ValueError(f'no cipher is called "{options.ciphers}"') from error
    if options.client_certificate is not None:
        try:
            context.load_cert_chain(options.client_certificate, options.client_key)
        except ssl.SSLError as error:
            key = options.client_key or "the same file"
            raise ValueError(
                f"{options.client_certificate} with the key in {key} is no certificate with its key in PEM"
            ) from error
    return context
