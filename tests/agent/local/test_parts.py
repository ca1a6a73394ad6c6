from __future__ import annotations

from pathlib import Path

from agent.local.folder import LocalFolder
from agent.local.parts import LocalParts, LocalPlan
from agent.local.supervisor import Supervisor


class _Silent:
    def part(self, name: str, state: str, text: str) -> None:
        pass


def _plan(**scale: int) -> LocalPlan:
    return LocalPlan(
        environment="production", scale=scale, faults=False, restart_after_s=None,
        config=Path("gaia.yaml"), agent_port=9877,
    )  # fmt: skip


async def test_database_and_roles_are_made_once_and_kept(tmp_path: Path) -> None:
    for _ in range(2):
        with LocalFolder(tmp_path, page="http://127.0.0.1:9877/") as folder:
            parts = LocalParts(folder, _plan())
            supervisor = Supervisor(_Silent())
            try:
                await supervisor.start(parts.postgres(), parts.nats())
                parts.prepare_database()
                roles = parts.run_sql(
                    "SELECT rolname, rolconnlimit FROM pg_roles WHERE rolname LIKE 'gaia%' ORDER BY 1"
                )
                assert roles.split() == ["gaia|-1", "gaia_agent|8"]
            finally:
                await supervisor.stop()


def test_scaled_services_have_a_port_each(tmp_path: Path) -> None:
    with LocalFolder(tmp_path, page="http://127.0.0.1:9877/") as folder:
        parts = LocalParts(folder, _plan(chat=3))
    assert parts.instances == {
        "auth": ("auth",), "asset": ("asset",), "chat": ("chat", "chat-2", "chat-3"), "gateway": ("gateway",),
    }  # fmt: skip
    assert len(set(parts.ports.values())) == 10
    assert len(parts.urls("chat")) == 3
