"""One file for both sides: what the agent judges by is what the services are started with."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.local.service_settings import service_settings
from agent.platform.load import load
from services.instrumentation.settings import Settings
from tests.agent.platform.files import ROOT_FILE, VARIABLES

WANTED = {
    "development": ("DEBUG", 30.0, 0.0),
    "staging": ("INFO", 15.0, 0.5),
    "production": ("WARNING", 10.0, 0.1),
}


@pytest.mark.parametrize("name", WANTED)
def test_a_services_settings_are_those_of_the_platform_file(name: str) -> None:
    scope = load(ROOT_FILE, environ=VARIABLES).scope(name, calls=False)
    environ = service_settings(scope, "chat")
    settings = Settings.from_environment("chat", {"ENVIRONMENT": name, **environ})
    assert (settings.log_level, settings.check_interval_s, settings.trace_ratio) == WANTED[name]
    assert set(scope.latency_edges_s) <= set(settings.buckets_s)
    assert 2.0 in settings.buckets_s


def test_a_variable_with_a_value_reaches_the_services_it_is_for(tmp_path: Path) -> None:
    file = tmp_path / "gaia.yaml"
    file.write_text(
        "platform: shop\n"
        "environments: {production: {alias: prod}}\n"
        "services: {chat: {url: 'http://127.0.0.1:1'}, auth: {url: 'http://127.0.0.1:2'}}\n"
        "variables:\n"
        "  LOG_LEVEL: {secret: false, value: ERROR}\n"
        "  CHAT_PROVIDER: {secret: false, value: anthropic, services: [chat]}\n"
        "  API_KEY: {purpose: a secret of nobody's business}\n"
    )
    scope = load(file, environ={}).scope("production", calls=False)
    chat, auth = service_settings(scope, "chat"), service_settings(scope, "auth")
    assert (chat["LOG_LEVEL"], chat["CHAT_PROVIDER"]) == ("ERROR", "anthropic")
    assert "CHAT_PROVIDER" not in auth
    assert "API_KEY" not in chat
