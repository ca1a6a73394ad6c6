"""How a TLS connection is made: the `tls` table of a check, and the one context built from it."""

from __future__ import annotations

import ssl
from functools import lru_cache
from typing import Final, Literal

import msgspec

from checks.units import Duration

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


@lru_cache(maxsize=64)
def context_of(options: TlsOptions) -> ssl.SSLContext:
    """The context for `options`, built once: loading the system's authorities takes 26 ms.

    Raises ssl.SSLError, OSError (unreadable file) and ValueError.
    """
    context = ssl.create_default_context(cafile=options.ca_file)
    # RFC 9525: a certificate names its hosts in the SAN only; OpenSSL still falls back on the common name.
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(["http/1.1"])
    return _configured(context, options)


@lru_cache(maxsize=64)
def unverified_context_of(options: TlsOptions) -> ssl.SSLContext:
    """The same without verification, for reading a chain that did not verify."""
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
        context.set_ciphers(options.ciphers)
    if options.client_certificate is not None:
        context.load_cert_chain(options.client_certificate, options.client_key)
    return context
