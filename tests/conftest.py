"""Fixtures every room may ask for."""

from __future__ import annotations

from tests.servers import database_url, nats_server, postgres_server

__all__ = ["database_url", "nats_server", "postgres_server"]
