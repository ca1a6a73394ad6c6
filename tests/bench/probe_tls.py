"""CPU seconds per 1,000 HTTPS probes and memory per kept connection, beside aiohttp and blackbox_exporter."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from checks.wire.tls_options import TlsOptions
from tests.bench.http_origin import origin
from tests.bench.probe_cpu import steady
from tests.bench.probers import Prober, Table, address, aiohttp_client, blackbox, ours, through_blackbox, urls
from tests.faults.certificates import sign

TARGETS = 500
INTERVAL_S = 2.5
ROUNDS = 3
_MIXED = "gaia, kept, every 5th new"
_BLACKBOX = "blackbox_exporter alone, new"


def certificates(folder: Path) -> tuple[str, str]:
    """The files of an authority and of one ECDSA P-256 server for every target."""
    authority = sign("bench authority", authority=True, hosts=())
    hosts = tuple(address(number) for number in range(TARGETS))
    return authority.save(folder, "ca"), sign("", by=authority, hosts=hosts).save(folder, "server")


async def _kept_bytes(prober: Prober) -> float:
    """How much each connection costs, once all have been made and kept."""
    left = TARGETS
    over = asyncio.get_running_loop().create_future()

    def done() -> None:
        nonlocal left
        left -= 1
        if not left:
            over.set_result(None)

    async with prober() as start:
        process = psutil.Process()
        start(0, done)
        await asyncio.sleep(0.5)
        before = process.memory_info().rss
        for number in range(1, TARGETS):
            start(number, done)
            if number % 25 == 0:
                await asyncio.sleep(0.05)
        await over
        return (process.memory_info().rss - before) / (TARGETS - 1)


def main() -> None:
    """Print both for each prober, medians of interleaved rounds."""
    cpu, memory, started_s = Table(), Table(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gaia-bench-") as folder:
        authority, server = certificates(Path(folder))
        modules = f"modules: {{tls: {{prober: http, http: {{tls_config: {{ca_file: {authority}}}}}}}}}\n"
        with origin(certificate=server) as port, blackbox(modules) as exporter:
            places = urls(port, TARGETS, scheme="https")
            trust = TlsOptions(ca_file=authority)
            context = ssl.create_default_context(cafile=authority)
            probers: dict[str, Prober] = {
                _MIXED: ours(places, "mixed", trust),
                "gaia, kept": ours(places, "kept", trust),
                "gaia, new connection each": ours(places, "fresh", trust),
                "aiohttp client, kept": aiohttp_client(places, "kept", context),
                "aiohttp client, new each": aiohttp_client(places, "fresh", context),
            }
            arms: dict[str, Callable[[], float]] = {
                name: lambda prober=prober: steady(prober, TARGETS, INTERVAL_S)  # type: ignore[misc] # bound now
                for name, prober in probers.items()
            }
            # First, while nothing that was freed can be used again.
            for name in ("gaia, kept", "aiohttp client, kept"):
                memory.add(name, asyncio.run(_kept_bytes(probers[name])) / 1000)
            for _ in range(ROUNDS):
                for name, arm in arms.items():
                    cpu.add(name, arm())
                if exporter is None:
                    cpu.add(_BLACKBOX, None)
                else:
                    through = through_blackbox(exporter[0], places, "tls")
                    cpu.add(_BLACKBOX, steady(through, TARGETS, INTERVAL_S, exporter[1]))
    _print(cpu, memory, [*arms, _BLACKBOX])
    print(f"  (took {time.monotonic() - started_s:.0f} s)")


def _print(cpu: Table, memory: Table, names: list[str]) -> None:
    print(
        f"CPU s per 1,000 HTTPS probes (ECDSA P-256), the client alone, {TARGETS} targets each"
        f" {INTERVAL_S:g} s, median [min-max] of {ROUNDS} rounds"
    )
    for name in names:
        cpu.row(name, ".3f", "limit 0.75" if name == _MIXED else "")
    cpu.ratio("gaia mixed / blackbox alone", _MIXED, _BLACKBOX, "0.50")
    cpu.ratio("gaia new / blackbox alone", "gaia, new connection each", _BLACKBOX)
    print("kB of memory per kept TLS connection")
    for name in ("gaia, kept", "aiohttp client, kept"):
        memory.row(name, ".0f", "limit 300" if name == "gaia, kept" else "")
