"""AWS Signature Version 4 for S3-compatible storage: pure functions over one request."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import quote

from services.instrumentation.redaction import Secret

UNSIGNED: Final = "UNSIGNED-PAYLOAD"
EMPTY: Final = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    access_key: str
    secret_key: Secret
    region: str
    service: str = "s3"


def sign(
    credentials: Credentials,
    *,
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    payload: str,
    at: datetime,
) -> dict[str, str]:
    """`headers` with `Authorization` and what it needs; `payload` is the body's SHA-256 or UNSIGNED-PAYLOAD.

    `path` is not yet encoded; `headers` must hold Host.
    """
    stamp, day = at.strftime("%Y%m%dT%H%M%SZ"), at.strftime("%Y%m%d")
    signed = {**headers, "x-amz-date": stamp}
    if credentials.service == "s3":
        signed["x-amz-content-sha256"] = payload
    lower = sorted((name.lower(), " ".join(value.split())) for name, value in signed.items())
    names = ";".join(name for name, _ in lower)
    pairs = sorted((quote(key, safe="-_.~"), quote(value, safe="-_.~")) for key, value in query.items())
    canonical = "\n".join((
        method,
        quote(path, safe="/-_.~"),
        "&".join(f"{key}={value}" for key, value in pairs),
        *(f"{name}:{value}" for name, value in lower),
        "",
        names,
        payload,
    ))  # fmt: skip
    scope = f"{day}/{credentials.region}/{credentials.service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{credentials.secret_key.reveal()}".encode()
    for part in (day, credentials.region, credentials.service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    signed["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    return signed
