"""`host:port` as people write it."""

from __future__ import annotations


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `example.org:443` or `[::1]:443`. Raises ValueError with the remedy."""
    host, colon, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not colon or not bare or (":" in bare) != host.startswith("["):
        raise ValueError(f'"{address}" is no address: write host:port, IPv6 in brackets')
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f'"{address}" has no port from 1 to 65535')
    return bare, int(port)
