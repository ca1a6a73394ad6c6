"""`python -m tests.agent.telemetry.child_intake DIRECTORY PORT BACKEND`: an intake to be killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from agent.telemetry.intake import Intake
from agent.telemetry.options import DestinationOptions, IntakeOptions
from agent.telemetry.traffic import Traffic
from checks.clock import SystemClock
from checks.units import Size


async def main(directory: str, port: str, url: str) -> None:
    intake = Intake(
        IntakeOptions(
            listen=f"127.0.0.1:{port}", keep_free=Size(0), destinations={"tempo": DestinationOptions(url=url)}
        ),
        directory=Path(directory),
        env="production",
        clock=SystemClock(),
        traffic=Traffic(env="production"),
        requests=lambda _sample: None,
        error_logs=lambda _event: None,
    )
    await intake.run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
