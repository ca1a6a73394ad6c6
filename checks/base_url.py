"""What a URL must be before anything below it is asked; light, since every table of options may need it."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def check_base(url: str, *, key: str) -> None:
    """Raises ValueError with the remedy when the value of `key` is no http(s) URL; it is not repeated."""
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ValueError(f"{key} must be a URL that starts with http:// or https:// and names a host")
    try:
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"the port in {key} must be a number from 1 to 65535") from error
