from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from agent.exposition.document import Document
from agent.exposition.metrics import METRICS
from agent.exposition.negotiation import Format
from agent.exposition.telemetry_series import TelemetrySeries
from agent.telemetry.figures import Figures
from agent.telemetry.ledger import Account
from agent.telemetry.signals import Signal
from tests.agent.telemetry.backend import ACCEPT, Verdict, backend
from tests.agent.telemetry.otlp import logs, post, running, traces
from tests.agent.telemetry.test_forwarder import options_for
from tests.waiting import until


def figures(**said: object) -> Figures:
    nothing: dict[str, object] = {
        "received": {}, "error_logs": {}, "accounts": {}, "refused": {}, "retried": 0, "log_bytes": 0,
        "damaged_bytes": 0, "failed_writes": 0, "in_flight_bytes": 0, "folded": {},
    }  # fmt: skip
    return Figures(**(nothing | said))  # type: ignore[arg-type]  # a test names fields of Figures


def samples(shown: Figures) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    document = Document(metric.family for metric in METRICS)
    TelemetrySeries(document).show("production", shown)
    text = b"".join(document.render(Format.TEXT)).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("gaia_telemetry_")
    }


async def test_the_intake_s_figures_are_exposed_and_its_ledger_balances(tmp_path: Path) -> None:
    async with backend() as tempo:
        tempo.decide = lambda _path, body: Verdict(400) if b"poison" in body else ACCEPT
        async with running(tmp_path, options_for(tempo)) as intake:
            await post(intake.port, "/v1/traces", traces(5))
            await post(intake.port, "/v1/logs", logs("a", "poison"))
            await post(intake.port, "/v1/logs", b"\xff")
            done = Account(received=2, delivered=1, queued=0, dead=1, evicted=0)
            await until(lambda: intake._accounts.get(("tempo", Signal.LOGS)) == done, within_s=15)
            shown = intake.figures()
    assert shown is not None
    assert shown.trouble is None
    found = samples(shown)
    tempo_logs = (("destination", "tempo"), ("signal", "logs"))
    assert found["gaia_telemetry_received_total", (("signal", "traces"),)] == 5
    assert found["gaia_telemetry_delivered_total", tempo_logs] == 1
    assert found["gaia_telemetry_dead_lettered_total", tempo_logs] == 1
    assert found["gaia_telemetry_queued", tempo_logs] == 0
    assert found["gaia_telemetry_evicted_total", tempo_logs] == 0
    assert found["gaia_telemetry_refused_total", (("code", "400"), ("signal", "logs"))] == 1
    assert found["gaia_telemetry_error_logs_total", (("env", "production"), ("service", "auth"))] == 2
    assert found["gaia_telemetry_log_bytes", ()] >= 0


def test_what_a_person_must_look_at_is_said_in_one_sentence() -> None:
    lost = Account(received=10, delivered=7, queued=1, dead=0, evicted=0)
    assert figures().trouble is None
    assert figures(accounts={("tempo", Signal.LOGS): lost}).trouble == (
        "2 items of logs for tempo are unaccounted for: report it"
    )
    assert (
        figures(destinations={"mimir": "", "tempo": "HTTP 401: check"}).trouble
        == "nothing is sent to tempo: HTTP 401: check"
    )
    assert "damaged" in str(figures(damaged_bytes=5).trouble)
    assert figures(folded={"auth": ("/user/1", "/user/2")}).trouble == (
        "auth has too many routes to count apart, /user/1 for one: give its spans an http.route without ids"
    )


def test_records_that_tell_no_environment_are_added_to_those_of_ours() -> None:
    shown = figures(log_records={("auth", "", "error"): 2, ("auth", "production", "error"): 3})
    place = (("env", "production"), ("level", "error"), ("service", "auth"))
    assert samples(shown)["gaia_telemetry_log_records_total", place] == 5
