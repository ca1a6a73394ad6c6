"""Each service's API, fuzzed with schemathesis from the description it serves itself.

A few inputs each time; `FUZZ_EXAMPLES=500 make test ARGS=tests/services/test_fuzz.py` tries longer.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import aiohttp
import pytest

from tests.services.conftest import Platform, sign_in
from tests.services.running import PLATFORM_KEY

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,unsupported_method,use_after_free"
)
EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "8")


async def fuzz(url: str, header: str, folder: Path, checks: str, *options: str) -> None:
    """Run schemathesis; its report is the failure's message."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "--no-color", "run", f"{url}/openapi.json",
        "--url", url, "--header", header, "--checks", checks, "--max-examples", EXAMPLES,
        # A stream of events has no end to wait for; the chat's own tests read it.
        "--exclude-path-regex", "/events$", "--phases", "examples,coverage,fuzzing",
        "--generation-deterministic", "--request-timeout", "10", "--continue-on-failure", *options,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=folder,
    )  # fmt: skip
    try:
        report, _ = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
    assert child.returncode == 0, report.decode()


@pytest.mark.parametrize("service", ["gateway", "auth", "asset", "chat"])
async def test_no_input_makes_a_service_fail_or_break_its_description(
    service: str, platform: Platform, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    user = await sign_in(http, platform.url)
    running = next(one for one in platform.services if one.kit.settings.service == service)
    await fuzz(running.url, f"X-API-Key: {PLATFORM_KEY}", tmp_path, CHECKS)
    # A user may do what the platform's key may not; but it may not sign itself out in the middle.
    await fuzz(
        running.url, f"Authorization: Bearer {user.token}", tmp_path, f"{CHECKS},ignored_auth",
        "--exclude-path", "/api/v1/auth/tokens/current",
    )  # fmt: skip
    errors = [line for one in platform.services for line in one.lines() if line["level"] == "ERROR"]
    assert errors == []
