"""`gaia alerts`, `explain`, `ack`, `silence`, `notify test`, `report`: what they say and refuse."""

from __future__ import annotations

import json

import pytest

from agent.cli import main
from alerts.dispatcher import Trial
from tests.agent.cli.desk import Desk, served


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def broken(desk: Desk) -> Desk:
    desk.world.kill("postgres")
    desk.world.fail("auth")
    desk.world.pass_s(30)
    return desk


async def test_alerts_of_a_well_platform(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(desk, monkeypatch) as gaia:
        assert await gaia("alerts") == 0
        assert capsys.readouterr().out == "nothing is wrong\n"
        assert await gaia("alerts", "--json") == 0
        assert capsys.readouterr().out == "[]\n"


async def test_alerts_say_what_is_wrong_since_when_and_who_was_called_or_why_not(
    broken: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(broken, monkeypatch) as gaia:
        assert await gaia("alerts") == 1
        said = capsys.readouterr().out
        assert "firing     page  production/postgres  database_down  since 08:00:30 UTC (" in said
        assert "-> on_call/console" in said
        assert "(listed under its cause)" in said
        assert await gaia("alerts", "--service", "auth") == 1
        assert "postgres" not in capsys.readouterr().out.replace("postgres ", "")
        assert await gaia("alerts", "--service", "nats") == 0
        capsys.readouterr()
        assert await gaia("alerts", "--json") == 1
        first = json.loads(capsys.readouterr().out)[0]
        assert {"id", "name", "env", "service", "severity", "state", "since_s", "summary", "notified"} <= set(
            first
        )


async def test_explain_tells_the_trail_and_the_deliveries(
    broken: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(broken, monkeypatch) as gaia:
        assert await gaia("explain", "database_down") == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "database_down of production/postgres: firing, severity page, signal target_state"
        assert "  why       Called: on_call/console." in lines
        assert any("fired" in line and "nobody listens" in line for line in lines)
        assert any("trigger to on_call/console: queued" in line for line in lines)
        assert await gaia("explain", "service_down auth") == 0
        assert "it is listed under its cause" in capsys.readouterr().out
        assert await gaia("explain", "database_down", "--json") == 0
        (one,) = json.loads(capsys.readouterr().out)["alerts"]
        assert {"alertname", "state", "why", "trail", "deliveries", "episode", "evidence"} <= set(one)


async def test_explain_of_what_is_not_there_is_refused(
    broken: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(broken, monkeypatch) as gaia:
        assert await gaia("explain", "no such thing") == 3
    said = capsys.readouterr().err
    assert said.startswith('gaia explain: there is no alert, target or episode called "no such thing"')


async def test_ack_takes_it_for_a_while_and_says_by_whom(
    broken: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(broken, monkeypatch) as gaia:
        assert await gaia("ack", "database_down", "--author", "mira", "--for", "1h") == 0
        said = capsys.readouterr().out
        assert said.startswith("mira took ")
        assert said.endswith(" for 1h\n")
        assert broken.world.alert("database_down", "postgres").acked_by == "mira"
        assert await gaia("alerts") == 1
        assert "taken by mira" in capsys.readouterr().out
        assert await gaia("ack", "postgres", "--author", "tom", "--for", "1h") == 0
        assert broken.world.alert("database_down", "postgres").acked_by == "tom"
        broken.world.pass_s(3700)
        assert broken.world.alert("database_down", "postgres").acked_by == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ack", "database_down", "--for", "soon"), '"soon" is not a duration'),
        (("ack", "database_down", "--for", "0s"), "take it for longer than no time"),
        (("ack", "nothing"), 'nobody was called for "nothing", so there is nothing to take'),
        (("ack", "database_down", "--author", " "), "say who takes it"),
        (
            ("silence", "add", "service", "--for", "1h", "--comment", "x"),
            "is not a matcher: write name=value",
        ),
        (("silence", "add", "service=a", "--for", "x", "--comment", "x"), '"x" is not a duration'),
        (("silence", "add", "service=~(", "--for", "1h", "--comment", "x"), "is not a regular expression"),
        (
            ("silence", "add", "service=~.*", "--for", "1h", "--comment", "x"),
            "does not match the empty label",
        ),
        (("silence", "add", "service=a", "--for", "1h", "--comment", " "), "say who and why"),
        (("silence", "expire", "no-such-id"), "no silence no-such-id is in force"),
        (("notify", "test", "nobody"), 'no receiver "nobody" is in use here; there are: on_call'),
        (("report", "--last", "a while"), '"a while" is not a duration'),
        (("report", "--last", "400d"), "last_s must be a number from 60 to"),
        (("report", "--env", "moon"), 'no environment "moon" is judged here'),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
async def test_what_cannot_be_done_exits_3_with_the_remedy(
    words: tuple[str, ...], said: str, broken: Desk, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    # The command's clock is the machine's; the desk is in 2027.
    monkeypatch.setattr("agent.cli.silence.time.time", lambda: broken.world.now_s)
    async with served(broken, monkeypatch) as gaia:
        assert await gaia(*words) == 3
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith(f"gaia {words[0]}: ")


async def test_without_the_token_nothing_is_written(
    broken: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(broken, monkeypatch) as gaia:
        monkeypatch.delenv("GAIA_TOKEN")
        assert await gaia("ack", "database_down") == 3
        assert await gaia("silence", "add", "service=postgres", "--for", "1h", "--comment", "x") == 3
    assert "Authorization: Bearer" in capsys.readouterr().err
    assert broken.judge.silences() == ()


@pytest.mark.parametrize(
    "words",
    [
        ("alerts",), ("explain", "x"), ("ack", "x"), ("silence", "list"), ("notify", "test", "x"),
        ("report",),
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_without_an_agent_each_says_so_and_how_to_name_one(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--url", "http://127.0.0.1:1"]) == 3
    said = capsys.readouterr().err
    assert said.startswith(f"gaia {words[0]}: no agent answers at http://127.0.0.1:1: ")
    assert "try --url" in said
    assert main([*words, "--url", "nonsense"]) == 3
    assert '"nonsense" is no address of an agent: write http://host:port' in capsys.readouterr().err


async def test_a_silence_is_made_shown_and_ended(
    broken: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The command's clock is the machine's; the desk is in 2027.
    monkeypatch.setattr("agent.cli.silence.time.time", lambda: broken.world.now_s)
    async with served(broken, monkeypatch) as gaia:
        add = ("silence", "add", "service=postgres", 'alertname=~"data.*"', "--for", "2h")
        assert await gaia(*add, "--comment", "upgrade", "--author", "mira") == 0
        made = capsys.readouterr().out.split(" ")[0]
        assert await gaia("silence", "list") == 0
        shown = capsys.readouterr().out
        assert shown.startswith(f'{made}  service="postgres", alertname=~"data.*"  until 2027-01-15 10:01:')
        assert shown.endswith("mira: upgrade\n")
        assert await gaia("silence", "list", "--json") == 0
        (one,) = json.loads(capsys.readouterr().out)
        assert set(one) >= {"id", "matchers", "starts_s", "ends_s", "author", "comment"}
        assert await gaia("silence", "expire", made) == 0
        assert capsys.readouterr().out == f"ended {made}\n"
        assert await gaia("silence", "expire", made, "--json") == 3, "it is ended already"
        assert await gaia(*add, "--comment", "again", "--author", "mira", "--json") == 0
        again = json.loads(capsys.readouterr().out)["silenceID"]
        assert await gaia("silence", "expire", again, "--json") == 0
        assert json.loads(capsys.readouterr().out) == {"ended": [again]}
        broken.world.pass_s(1)
        assert await gaia("silence", "list") == 0
        assert capsys.readouterr().out == "no silence is in force\n"
        assert await gaia("silence", "list", "--all") == 0
        assert made in capsys.readouterr().out


async def test_a_silence_can_be_planned_cover_what_depends_on_it_and_end_with_the_trouble(
    broken: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("agent.cli.silence.time.time", lambda: broken.world.now_s)
    async with served(broken, monkeypatch) as gaia:
        add = ("silence", "add", "service=nats", "--for", "1h", "--comment", "upgrade", "--author", "mira")
        more = ("--starts", "2027-01-15T10:00:00Z", "--with-dependents", "--until-resolved")
        assert await gaia(*add, *more) == 0
        said = capsys.readouterr().out
        assert "from 2027-01-15 10:00:00 UTC until 2027-01-15 11:00:00 UTC" in said
        (silence,) = broken.judge.silences()
        assert (silence.covers_dependents, silence.expire_on_resolve) == (True, True)
        assert not silence.active(broken.world.now_s)
        assert await gaia("silence", "list") == 0
        assert "from 2027-01-15 10:00:00 UTC  until" in capsys.readouterr().out
        assert await gaia(*add, "--starts", "tomorrow") == 3
        assert '"tomorrow" is not a time: write one such as' in capsys.readouterr().err


class Tried(Desk):
    """Its one channel takes, or refuses, the test message."""

    refuses = False

    def test(self, receiver: str, author: str) -> Trial:
        from alerts.batch import Batch
        from alerts.dispatcher import test_notice

        if receiver != "on_call":
            return Trial(channels=(), episode="")
        made = test_notice(self.env, author, self.world.now_s)
        (row,) = self.journal.commit(Batch(outbox=[("on_call/console", 0, made)]), self.world.now_s)
        if self.refuses:
            import msgspec

            failed = msgspec.structs.replace(
                row, attempts=1, last_error="hooks.example.org answered 404: no_team", http_status=404,
                next_at_s=self.world.now_s,
            )  # fmt: skip
            self.journal.failed(failed, dead=True)
        else:
            self.journal.sent(row, self.world.now_s + 0.3, status=200)
        return Trial(channels=("on_call/console",), episode=made.episode)


async def test_a_test_message_says_channel_by_channel_whether_it_was_taken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = Tried()
    async with served(desk, monkeypatch) as gaia:
        assert await gaia("notify", "test", "on_call") == 0
        assert capsys.readouterr().out == "on_call/console: sent after 0.30 s\n"
        desk.refuses = True
        desk.world.pass_s(1)
        assert await gaia("notify", "test", "on_call") == 1
        assert capsys.readouterr().out == (
            "on_call/console: dead after 0.00 s: hooks.example.org answered 404: no_team\n"
        )
        desk.world.pass_s(1)
        assert await gaia("notify", "test", "on_call", "--json") == 1
        (row,) = json.loads(capsys.readouterr().out)
        assert (row["channel"], row["state"]) == ("on_call/console", "dead")


async def test_report_names_the_noisiest_and_what_never_called(
    broken: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(broken, monkeypatch) as gaia:
        assert await gaia("report", "--last", "1h") == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "production, 2027-01-15 to 2027-01-15: 1 page and 0 messages, 0% acted on"
        assert lines[1] == "  database_down (postgres): 1 page, 0 acted on"
        assert lines[-1].startswith("  never called in this time: ")
        assert await gaia("report", "--env", "prod", "--json") == 0
        (report,) = json.loads(capsys.readouterr().out)
        assert set(report) == {"env", "from_s", "to_s", "pages", "chats", "acted", "rules", "never"}
