"""What watching costs a PostgreSQL server: database time and connections a round, and after 50 restarts."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from statistics import median

import asyncpg

from agent.local.postgres import LocalPostgres
from checks.postgres.options import PostgresOptions
from checks.postgres.role import role_sql
from checks.secret import Secret
from tests.faults.deep.looking import Look

ROUNDS = 200
RESTARTS = 50
SETTINGS = {"shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.track_planning": "on"}
_SPENT = """SELECT sum(total_exec_time + total_plan_time) FROM pg_stat_statements s
            JOIN pg_roles r ON r.oid = s.userid WHERE rolname = 'gaia_monitor'"""
_HELD = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'gaia_monitor'"


async def cost(server: LocalPostgres) -> None:
    url = Secret(server.url_of(user="gaia_monitor", password="p"))
    admin = await asyncpg.connect(server.url)
    async with Look("postgres", PostgresOptions(url=url)) as one:
        await one.look(3)
        await admin.execute("SELECT pg_stat_statements_reset()")
        cpu_s, walls, most = time.process_time(), [], 0
        for _ in range(ROUNDS):
            started = time.perf_counter()
            await one.look()
            walls.append(time.perf_counter() - started)
            most = max(most, await admin.fetchval(_HELD))
        cpu_s = time.process_time() - cpu_s
        spent_ms = await admin.fetchval(_SPENT)
    await admin.close()
    print(f"database time a round  {spent_ms / ROUNDS:6.2f} ms   (promise < 20 ms, n={ROUNDS})")
    print(f"whole look             {median(walls) * 1000:6.2f} ms   median, of which a fresh connection")
    print(f"agent CPU a round      {cpu_s / ROUNDS * 1000:6.2f} ms")
    print(f"sessions of the role   {most:6d}      at most (budget 2)")


async def restarts(server: LocalPostgres) -> None:
    url = Secret(server.url_of(user="gaia_monitor", password="p"))
    files, most = [], 0
    async with Look("postgres", PostgresOptions(url=url)) as one, one.watched():
        for _ in range(RESTARTS):
            server.kill()
            await one.look()
            server.start()
            found = await one.look()
            while found.state != "up":
                found = await one.look()
            most = max(most, int(server.run_sql(_HELD)))
            files.append(_open_files())
    left = server.run_sql(_HELD)
    print(
        f"{RESTARTS} restarts by kill -9: sessions at most {most} (budget 2), left after close {left}; "
        f"agent's open files {files[0]} -> {files[-1]}"
    )


def _open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def main() -> None:
    """Figures: milliseconds and sessions."""
    with tempfile.TemporaryDirectory(prefix="gaia-bench-") as folder:
        server = LocalPostgres(Path(folder) / "pg", settings=SETTINGS)
        server.start()
        try:
            server.run_sql("CREATE EXTENSION pg_stat_statements")
            server.run_sql(role_sql(password=False) + "ALTER ROLE gaia_monitor PASSWORD 'p';")
            asyncio.run(cost(server))
            asyncio.run(restarts(server))
        finally:
            server.kill()
