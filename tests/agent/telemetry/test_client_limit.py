"""One client's share: 429 with a short Retry-After for who asked for it in gaia.yaml, and for nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # ships no types

from agent.telemetry.client_limit import ClientLimit
from agent.telemetry.options import IntakeOptions
from agent.telemetry.signals import Rejected
from checks.units import Size
from tests.agent.telemetry.otlp import post, running, traces


def test_a_burst_is_taken_and_its_debt_waited_for() -> None:
    limit = ClientLimit(1000)
    limit.took("a", 2000, 0.0)
    limit.admit("a", 0.0)
    limit.took("a", 1500, 0.0)
    with pytest.raises(Rejected) as refused:
        limit.admit("a", 0.0)
    assert (refused.value.status, refused.value.retry_after_s) == (429, 2)
    with pytest.raises(Rejected) as refused:
        limit.admit("a", 1.0)
    assert refused.value.retry_after_s == 1
    limit.admit("a", 1.6)


def test_one_client_s_debt_is_no_other_s_and_their_number_is_bounded() -> None:
    limit = ClientLimit(1000)
    limit.took("a", 1_000_000, 0.0)
    limit.admit("b", 0.0)
    for number in range(5000):
        limit.took(str(number), 1, 0.0)
    assert len(limit._left) <= 4096


async def test_a_client_beyond_its_limit_gets_429_and_is_never_asked_to_wait_long(tmp_path: Path) -> None:
    options = IntakeOptions(listen="127.0.0.1:0", keep_free=Size(0), per_client=Size(1000))
    async with running(tmp_path, options) as intake:
        assert (await post(intake.port, "/v1/traces", traces(200))).status == 200
        refused = await post(intake.port, "/v1/traces", traces(1))
    assert (refused.status, refused.headers["retry-after"]) == (429, "2")
    assert "bytes a second from 127.0.0.1" in Status.FromString(refused.body).message


async def test_without_a_limit_nobody_is_throttled(tmp_path: Path) -> None:
    async with running(tmp_path) as intake:
        for _ in range(20):
            assert (await post(intake.port, "/v1/traces", traces(300))).status == 200
