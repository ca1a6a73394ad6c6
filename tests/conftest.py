"""Fixtures every room may ask for."""

from __future__ import annotations

from hypothesis import settings

from tests.servers import database_url, nats_server, postgres_server

__all__ = ["database_url", "nats_server", "postgres_server"]

# `make test ARGS="--hypothesis-profile=thorough tests/checks"`: ten times the usual examples.
settings.register_profile("thorough", max_examples=1000, deadline=None)
