"""Alertmanager's v2 API as its clients use it: plain requests, and the real amtool."""

from __future__ import annotations

import json
import shutil
import subprocess
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from alerts.alertmanager_api import respond
from alerts.desk import explain
from alerts.dispatcher import Trial
from alerts.journal import Journal
from alerts.judge import Judge
from alerts.notifiers.webhook import rfc3339
from alerts.owner import LEFT
from tests.alerts.world import World

AMTOOL = shutil.which("amtool")


class WorldDesk:
    """One environment on a virtual clock."""

    def __init__(self) -> None:
        self.world = World()
        self.world.pass_s(30)

    @property
    def env(self) -> str:
        return self.world.plan.env

    @property
    def judge(self) -> Judge:
        return self.world.judge

    @property
    def journal(self) -> Journal:
        return self.world.journal

    def test(self, receiver: str, author: str) -> Trial:
        del receiver, author
        return Trial(channels=(), episode="")


@pytest.fixture
def desk() -> WorldDesk:
    return WorldDesk()


def ask(desk: WorldDesk, method: str, path: str, body: object = None, **query: list[str]) -> Any:
    content = b"" if body is None else json.dumps(body).encode()
    answer = respond([desk], method, path, query=query, body=content, now_s=desk.world.now_s)
    assert answer.status == 200, answer
    return json.loads(answer.body) if answer.body else None


def test_what_fires_is_listed_with_its_state(desk: WorldDesk) -> None:
    desk.world.kill("postgres")
    desk.world.fail("auth")
    alerts = {one["labels"]["service"]: one for one in ask(desk, "GET", "/api/v2/alerts")}
    assert alerts["postgres"]["status"] == {"state": "active", "silencedBy": [], "inhibitedBy": []}
    assert alerts["postgres"]["receivers"] == [{"name": "on_call"}]
    assert alerts["auth"]["status"]["state"] == "suppressed"
    assert alerts["auth"]["status"]["inhibitedBy"] == [alerts["postgres"]["fingerprint"]]
    only = ask(desk, "GET", "/api/v2/alerts", filter=['service="auth"', 'alertname=~"service_.*"'])
    assert [one["labels"]["service"] for one in only] == ["auth"]
    assert ask(desk, "GET", "/api/v2/alerts", inhibited=["false"], filter=['service="auth"']) == []
    groups = ask(desk, "GET", "/api/v2/alerts/groups")
    assert {group["receiver"]["name"] for group in groups} == {"on_call", "nobody"}


def test_a_posted_alert_is_told_and_its_end_too(desk: WorldDesk) -> None:
    alert = {
        "labels": {"alertname": "HighLag", "service": "auth", "severity": "critical"},
        "annotations": {"summary": "lag is high"},
        "startsAt": "2027-01-15T08:00:00.123456789Z",
        "generatorURL": "http://prometheus/graph",
    }
    ask(desk, "POST", "/api/v2/alerts", [alert])
    assert desk.world.said() == ["trigger HighLag auth"]
    ended = alert | {"endsAt": rfc3339(desk.world.now_s - 1)}
    ask(desk, "POST", "/api/v2/alerts", [ended])
    assert desk.world.said() == ["trigger HighLag auth", "resolve HighLag auth"]


def test_a_silence_is_made_listed_and_ended(desk: WorldDesk) -> None:
    now_s = desk.world.now_s
    body = {
        "matchers": [{"name": "service", "value": "postgres", "isRegex": False, "isEqual": True}],
        "startsAt": rfc3339(now_s), "endsAt": rfc3339(now_s + 600), "createdBy": "mira", "comment": "upgrade",
    }  # fmt: skip
    made = ask(desk, "POST", "/api/v2/silences", body)["silenceID"]
    desk.world.kill("postgres")
    desk.world.pass_s(2)
    assert desk.world.told() == []
    assert ask(desk, "GET", "/api/v2/silences")[0]["status"] == {"state": "active"}
    ask(desk, "DELETE", f"/api/v2/silence/{made}")
    assert ask(desk, "GET", f"/api/v2/silence/{made}")["status"] == {"state": "expired"}
    desk.world.pass_s(2)
    assert desk.world.said() == ["trigger database_down postgres"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"matchers": [], "startsAt": "", "endsAt": "2099-01-01T00:00:00Z", "createdBy": "a", "comment": "c"},
         "at least one matcher"),
        ({"matchers": [{"name": "a", "value": "b"}], "startsAt": "", "endsAt": "", "createdBy": "a",
          "comment": "c"}, "must end in the future"),
        ({"matchers": [{"name": "a", "value": "("  , "isRegex": True}], "startsAt": "",
          "endsAt": "2099-01-01T00:00:00Z", "createdBy": "a", "comment": "c"}, "not a regular expression"),
        ({"matchers": [{"name": "a", "value": "b"}], "startsAt": "", "endsAt": "2099-01-01T00:00:00Z",
          "createdBy": "", "comment": ""}, "author and a comment"),
        ([1], "Expected `object`"),
    ],
)  # fmt: skip
def test_a_bad_silence_is_refused_with_the_remedy(desk: WorldDesk, body: object, words: str) -> None:
    answer = respond(
        [desk], "POST", "/api/v2/silences", query={}, body=json.dumps(body).encode(), now_s=desk.world.now_s
    )
    assert answer.status == 400
    assert words in answer.body.decode()


@pytest.mark.parametrize("body", [b"", b"{", b"[{}]", b'[{"labels":{}}]', b"\xff\xfe", b"[" * 10000])
def test_hostile_alerts_are_refused(desk: WorldDesk, body: bytes) -> None:
    answer = respond([desk], "POST", "/api/v2/alerts", query={}, body=body, now_s=desk.world.now_s)
    assert answer.status == 400
    assert desk.world.told() == []


def test_an_unknown_address_is_not_found(desk: WorldDesk) -> None:
    assert respond([desk], "GET", "/api/v2/nothing", query={}, body=b"", now_s=0).status == 404


def test_explain_says_what_was_left_to_alertmanager(desk: WorldDesk) -> None:
    desk.world.kill("postgres")
    (row,) = desk.journal.queued()
    desk.journal.merge([row], desk.world.now_s, why=LEFT)
    (one,) = explain(desk, "database_down postgres", desk.world.now_s)
    assert one.why == "Left to Alertmanager: on_call/console."


def test_explain_says_why_nobody_was_called(desk: WorldDesk) -> None:
    desk.world.kill("postgres")
    desk.world.fail("auth")
    (root,) = explain(desk, "database_down postgres", desk.world.now_s)
    assert root.why == "Called: on_call/console."
    assert [entry.what for entry in root.trail] == ["fired", "told"]
    assert [(one.channel, one.kind, one.state) for one in root.deliveries] == [
        ("on_call/console", "trigger", "queued")
    ]
    dependent = explain(desk, "service_down auth", desk.world.now_s)[0]
    assert dependent.why == f"Nobody was called: it is listed under its cause, episode {root.episode}."


class Server(HTTPServer):
    """Answers in the thread that asks it to: a judge belongs to one thread."""

    timeout = 0.05

    def __init__(self, desk: WorldDesk) -> None:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                answer = respond(
                    [desk], self.command, parts.path, query=parse_qs(parts.query), body=body,
                    now_s=desk.world.now_s,
                )  # fmt: skip
                self.send_response(answer.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            do_POST = do_GET  # noqa: N815  # the standard library's name
            do_DELETE = do_GET  # noqa: N815

        super().__init__(("127.0.0.1", 0), Handler)

    def amtool(self, *words: str) -> str:
        assert AMTOOL is not None
        url = f"--alertmanager.url=http://127.0.0.1:{self.server_address[1]}"
        with subprocess.Popen([AMTOOL, url, *words], stdout=subprocess.PIPE, text=True) as running:
            while running.poll() is None:
                self.handle_request()
            assert running.returncode == 0
            assert running.stdout is not None
            return running.stdout.read()


@pytest.mark.skipif(AMTOOL is None, reason="amtool (Debian: prometheus-alertmanager) is not installed")
def test_amtool_lists_alerts_and_makes_and_ends_silences() -> None:
    desk = WorldDesk()
    desk.world.kill("postgres")
    with Server(desk) as server:
        amtool = server.amtool
        assert "database_down" in amtool("alert", "query")
        assert "database_down" in amtool("alert", "query", "service=postgres", "alertname=~data.*")
        assert "database_down" not in amtool("alert", "query", "service=auth")
        # amtool's own clock makes the silence; the desk's is in 2027.
        made = amtool(
            "silence", "add", "--author=mira", "--comment=upgrade", "--end=2027-01-16T00:00:00Z",
            "service=postgres",
        ).strip()  # fmt: skip
        assert made in amtool("silence", "query")
        desk.world.pass_s(2)
        assert "database_down" in amtool("alert", "query", "--silenced")
        amtool("silence", "expire", made)
        assert [one.active(desk.world.now_s) for one in desk.judge.silences()] == [False]
        amtool("alert", "add", "alertname=Foo", "service=nats", "severity=page", "--end=2027-01-16T00:00:00Z")
        assert "trigger Foo nats" in desk.world.said()
        assert "disabled" in amtool("cluster", "show")


@pytest.mark.skipif(AMTOOL is None, reason="amtool (Debian: prometheus-alertmanager) is not installed")
def test_amtool_acknowledges_with_a_silence_that_says_so_and_ends_with_the_alert() -> None:
    desk = WorldDesk()
    desk.world.kill("postgres")
    desk.world.pass_s(5)
    with Server(desk) as server:
        server.amtool(
            "silence", "add", "--author=mira", "--comment=ACK! on it", "--end=2027-01-16T00:00:00Z",
            "service=postgres",
        )  # fmt: skip
    assert desk.world.alert("database_down", "postgres").acked_by == "mira"
    desk.world.pass_s(2)
    (silence,) = desk.judge.silences()
    assert silence.active(desk.world.now_s)
    desk.world.heal("postgres")
    desk.world.pass_s(700)
    # What fires next is somebody's again.
    assert not desk.judge.silences()[0].active(desk.world.now_s)
    desk.world.kill("postgres")
    desk.world.pass_s(5)
    assert desk.world.alert("database_down", "postgres").told


@pytest.mark.skipif(AMTOOL is None, reason="amtool (Debian: prometheus-alertmanager) is not installed")
def test_amtool_edits_silences_chooses_receivers_and_shows_what_we_are() -> None:
    desk = WorldDesk()
    desk.world.kill("postgres")
    end = "--end=2027-01-16T00:00:00Z"
    with Server(desk) as server:
        amtool = server.amtool
        assert "database_down" in amtool("alert", "query", "--receiver=on_call")
        assert "database_down" not in amtool("alert", "query", "--receiver=somebody")
        made = amtool(
            "silence", "add", "--author=mira", "--comment=one", end, 'alertname=~"data.*|broker.*"'
        ).strip()
        edited = amtool("silence", "update", "--comment=two", made)
        assert "two" in edited
        (active,) = [one for one in desk.judge.silences() if one.active(desk.world.now_s)]
        assert (active.comment, active.author) == ("two", "mira")
        assert active.id != made
        assert active.id in amtool("silence", "query", "alertname=~data.*|broker.*")
        assert '"on_call"' in amtool("config", "show")
        assert "on_call" in amtool("config", "routes", "test", "alertname=anything")
