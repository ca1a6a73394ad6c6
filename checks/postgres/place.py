"""Where a PostgreSQL server is and how to enter: a parsed connection URL."""

from __future__ import annotations

import getpass
import ssl
from pathlib import Path
from typing import Final, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from msgspec import Struct, field

from checks.secret import Secret

TlsMode = Literal["disable", "prefer", "require", "verify-ca", "verify-full"]
_TLS_MODES: Final[tuple[TlsMode, ...]] = ("disable", "prefer", "require", "verify-ca", "verify-full")
_DEFAULT_PORT: Final = 5432
_DEFAULT_SOCKETS: Final = ("/var/run/postgresql", "/tmp")  # noqa: S108 - where libpq looks, by its documentation


class Place(Struct, frozen=True, kw_only=True):
    """One server and one database on it. `host` starting with `/` is the directory of a Unix socket."""

    host: str
    port: int
    user: str
    database: str
    password: Secret = field(default_factory=lambda: Secret(""))
    tls: TlsMode = "prefer"
    ca_file: str = ""

    @property
    def socket_path(self) -> str | None:
        """The Unix socket's path, None for TCP."""
        return f"{self.host}/.s.PGSQL.{self.port}" if self.host.startswith("/") else None

    @property
    def shown(self) -> str:
        """What people are shown: no user, no password, no query."""
        if self.socket_path is not None:
            return f"{self.socket_path}/{self.database}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}/{self.database}"

    def tls_context(self) -> ssl.SSLContext:
        """TLS 1.2 or later; verified as the mode says. Raises OSError when `ca_file` cannot be read."""
        verified = self.tls in ("verify-ca", "verify-full")
        context = ssl.create_default_context(cafile=self.ca_file or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = self.tls == "verify-full"
        if not verified:
            # libpq's meaning of prefer and require: encrypted, the peer's name is not proved.
            context.verify_mode = ssl.CERT_NONE
        return context


def parse_url(url: Secret, *, tls: TlsMode | None = None, ca_file: str = "") -> Place:
    """The place a `postgresql://` URL names, as libpq reads it; `tls` and `ca_file` win over its query.

    Raises ValueError with the remedy; its text never holds the password.
    """
    parts = urlsplit(url.reveal())
    if parts.scheme not in ("postgresql", "postgres"):
        raise ValueError(f'a PostgreSQL URL starts with "postgresql://", not "{parts.scheme}://"')
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    try:
        port = int(query.get("port") or parts.port or _DEFAULT_PORT)
    except ValueError as error:
        raise ValueError("the port of a PostgreSQL URL is a number from 1 to 65535") from error
    # urlsplit lower-cases .hostname, which would break the path of a percent-encoded socket directory.
    netloc = parts.netloc.rpartition("@")[2]
    written = netloc if netloc.startswith(("%2F", "%2f")) else (parts.hostname or "")
    if written.lower().startswith("%2f"):
        written = written.partition(":")[0]
    host = query.get("host") or unquote(written) or _default_host(port)
    user = unquote(parts.username or "") or query.get("user") or getpass.getuser()
    mode = tls or _mode(query.get("sslmode", "prefer"))
    return Place(
        host=host,
        port=port,
        user=user,
        database=unquote(parts.path.lstrip("/")) or query.get("dbname") or user,
        password=Secret(unquote(parts.password or "") or query.get("password", "")),
        tls="disable" if host.startswith("/") else mode,
        ca_file=ca_file or query.get("sslrootcert", ""),
    )


def _mode(written: str) -> TlsMode:
    if written == "allow":
        return "prefer"
    for mode in _TLS_MODES:
        if mode == written:
            return mode
    raise ValueError(f'sslmode "{written}" is not one of {", ".join(_TLS_MODES)}')


def _default_host(port: int) -> str:
    for directory in _DEFAULT_SOCKETS:
        if Path(directory, f".s.PGSQL.{port}").exists():
            return directory
    return "localhost"
