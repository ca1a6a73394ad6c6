"""`gaia import alertmanager.yml`: what is carried over is valid, what is not is said with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.cli import main
from agent.platform.load import load
from alerts.receiver import Receiver
from alerts.rule import Severity

TWO = "{match_re: {severity: critical|warning}, receiver: two}"
FILE = Path(__file__).parent / "alertmanager.yml"


def _imported(tmp_path: Path, text: str, *words: str) -> tuple[int, Path]:
    source = tmp_path / "alertmanager.yml"
    source.write_text(text)
    out = tmp_path / "gaia.yaml"
    return main(["import", str(source), "--output", str(out), *words]), out


def _receivers(path: Path, env: str = "production") -> dict[str, Receiver]:
    variables = (
        "CHAT_SLACK_WEBHOOK", "PAGER_PAGERDUTY_KEY", "PAGER_WEBHOOK_URL", "MAIL_SMTP_PASSWORD",
        "WEB_HOOK_TELEGRAM_TOKEN",
    )  # fmt: skip
    environ = dict.fromkeys(variables, "x")
    return dict(load(path, environ=environ).scope(env).receivers)


def test_a_whole_file_is_carried_over_and_passes_validate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "gaia.yaml"
    assert main(["import", str(FILE), "--output", str(out)]) == 1
    capsys.readouterr()
    assert main(["validate", "--config", str(out), "--without-secrets"]) == 0
    receivers = _receivers(out)
    assert {name: one.severities for name, one in receivers.items()} == {
        "chat": (Severity.CHAT,),
        "pager": (Severity.PAGE,),
        "mail": (Severity.PAGE,),
        "web-hook": (),
    }
    assert receivers["pager"].environments == ("production",)
    assert (str(receivers["pager"].repeat_page), str(receivers["mail"].repeat_page)) == ("90m", "4h")
    assert len(receivers["pager"].notify) == 2
    smtp = receivers["mail"].smtp
    assert smtp is not None
    assert (smtp.host, smtp.port, smtp.to) == (
        "mail.example.org", 587, ("ops@example.org", "boss@example.org"),
    )  # fmt: skip
    (window,) = load(out, environ={}).scopes["production"].alerts.maintenance
    assert (window.cron, str(window.lasts), window.comment) == ("0 2 * * 1-5", "90m", "nightly")


def test_no_secret_is_copied_and_each_is_named_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "gaia.yaml"
    main(["import", str(FILE), "--output", str(out)])
    said = capsys.readouterr()
    assert "SECRET" not in out.read_text() + said.out + said.err
    assert f"#   PAGER_PAGERDUTY_KEY   (its value: {FILE}:33:39)" in out.read_text()


def test_what_has_no_equivalent_is_said_with_file_line_and_column(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["import", str(FILE)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0] == (
        f"{FILE}:2:3: global.resolve_timeout: an alert of others that is not confirmed lasts five minutes"
    )
    for line in (
        ':20:21: route: team="db": no route by team: write receivers: [dba] into the rules that mean it',
        ":47:5: inhibit_rules: write services.auth.depends_on: [postgres]",
        ":60:65: time interval weekend: location: windows are in UTC: move the hours yourself",
        ":61:1: unknown_thing: has no equivalent",
    ):
        assert f"{FILE}{line}" in said
    # A page covers its component's chat here anyway: nothing to say.
    assert not any("covers severity" in line for line in said)


def test_laid_over_a_file_services_learn_what_they_need(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "base.yaml"
    base.write_text(
        "platform: shop\nenvironments:\n  production: {alias: prod}\n"
        'databases:\n  postgres: {url: "postgresql://127.0.0.1/x"}\n'
        'services:\n  auth: {url: "https://a.example"}\n  chat: {url: "https://c.example"}\n'
    )
    out = tmp_path / "alerts.yaml"
    assert main(["import", str(FILE), "--onto", str(base), "--output", str(out)]) == 1
    capsys.readouterr()
    assert main(["validate", "--config", str(base), "--overlay", str(out), "--without-secrets"]) == 0
    scope = load(base, overlay=out, environ={}).scopes["production"]
    assert scope.dependencies == {"auth": ("postgres",), "chat": ("postgres",)}
    assert ("auth", "chat") in [window.targets for window in scope.alerts.maintenance]


@pytest.mark.parametrize(
    ("routes", "taken"),
    [
        ("[]", {"all": ("page", "chat")}),
        ("[{match: {severity: critical}, receiver: one}]", {"all": ("chat",), "one": ("page",)}),
        (
            "[{match: {severity: critical}, receiver: one, continue: true}]",
            {"all": ("chat",), "one": ("page",)},
        ),
        (
            f"[{{match: {{severity: critical}}, receiver: one, continue: true}}, {TWO}]",
            {"one": ("page",), "two": ("page", "chat")},
        ),
        (
            f"[{{match: {{severity: critical}}, receiver: one}}, {TWO}]",
            {"one": ("page",), "two": ("chat",)},
        ),
        (
            "[{matchers: ['severity!=\"critical\"'], receiver: one}]",
            {"all": ("page",), "one": ("chat",)},
        ),
    ],
    ids=["no routes", "one", "continue", "goes on to two", "first takes it", "not"],
)
def test_a_tree_of_routes_becomes_what_each_receiver_takes(
    routes: str, taken: dict[str, tuple[str, ...]], tmp_path: Path
) -> None:
    hooks = "".join(
        f"  - name: {name}\n    webhook_configs: [{{url: 'http://{name}.example/hook'}}]\n"
        for name in ("all", "one", "two")
    )
    code, out = _imported(tmp_path, f"route: {{receiver: all, routes: {routes}}}\nreceivers:\n{hooks}")
    assert code == 0
    found = {name: one.severities for name, one in _receivers(out).items()}
    assert {name: one for name, one in found.items() if one} == {
        name: tuple(Severity(word) for word in words) for name, words in taken.items()
    }


def test_json_has_the_file_what_is_left_and_the_variables(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(FILE), "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert set(answer) == {"yaml", "left", "variables"}
    assert answer["left"][0] == {
        "file": str(FILE), "line": 2, "column": 3, "key": "global.resolve_timeout",
        "message": "an alert of others that is not confirmed lasts five minutes",
    }  # fmt: skip
    assert {one["name"] for one in answer["variables"]} >= {"PAGER_PAGERDUTY_KEY", "MAIL_SMTP_PASSWORD"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a\n", "must be a table"),
        ("a: 1\n", "is no alertmanager.yml: it has neither receivers nor a route"),
        ("route: {receiver: [\n", "not YAML"),
    ],
    ids=["list", "another file", "broken"],
)
def test_what_is_no_such_file_is_refused_with_its_place(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = _imported(tmp_path, text)
    said = capsys.readouterr().err
    assert code == 3
    assert words in said, said
    assert str(tmp_path / "alertmanager.yml") in said
    assert not out.exists()


@pytest.mark.parametrize(
    "text",
    [
        "route: []\nreceivers: {}\n",
        "route: x\nreceivers: [a, {name: b, webhook_configs: x}, {webhook_configs: [1, {url: {}}]}]\n",
        "route: {receiver: a, routes: [x, {matchers: ['((']}, {match: [a]}]}\n",
        "receivers: []\ninhibit_rules: [x, {source_match: y}]\ntime_intervals: [{time_intervals: [a]}]\n",
    ],
)
def test_nonsense_in_the_right_places_is_survived(text: str, tmp_path: Path) -> None:
    code, out = _imported(tmp_path, text)
    assert code in (0, 1)
    load(out, environ={})


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ('{times: [{start_time: "22:00", end_time: "06:00"}]}', "it ends before it starts"),
        ('{times: [{start_time: "-1:00", end_time: "06:00"}]}', "-60 is not from 0 to 1440"),
        ('{times: [{start_time: "01:75", end_time: "06:00"}]}', "75 is not from 0 to 59"),
        ('{days_of_month: ["40"]}', "40 is not from 1 to 31"),
        ('{days_of_month: ["-3:-1"]}', "days counted from the end of the month cannot be a cron expression"),
        ('{months: ["13"]}', "13 is not from 1 to 12"),
        ('{months: ["december:january"]}', "december:january ends before it starts"),
        ('{weekdays: ["funday"]}', '"funday" is no day of the week'),
        ('{months: ["smarch"]}', '"smarch" is not a number'),
    ],
)
def test_a_time_that_is_none_is_said_with_its_place(
    interval: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"route: {{receiver: a}}\ntime_intervals:\n  - name: x\n    time_intervals: [{interval}]\n"
    code, out = _imported(tmp_path, text)
    error = capsys.readouterr().err
    assert code == 1
    assert f"{tmp_path}/alertmanager.yml:4:22: time interval x: " in error
    assert said in error
    load(out, environ={})


def test_names_and_patterns_that_are_none_here_are_made_so_or_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (
        "route: {receiver: 9 to 5, routes: [{match_re: {severity: '['}, receiver: 9 to 5}]}\n"
        "receivers: [{name: 9 to 5, slack_configs: [{api_url: https://x.example/SECRET}]}]\n"
    )
    code, out = _imported(tmp_path, text)
    assert code == 1
    assert 'match_re.severity: "[" is not a regular expression' in capsys.readouterr().err
    assert "${RECEIVER_9_TO_5_SLACK_WEBHOOK}" in out.read_text()
    load(out, environ={})


def test_a_file_that_is_there_is_kept_unless_told_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gaia.yaml").write_text("mine")
    code, out = _imported(tmp_path, "route: {receiver: a}\n")
    assert (code, out.read_text()) == (3, "mine")
    assert "is there already; --force replaces it" in capsys.readouterr().err
    code, out = _imported(tmp_path, "receivers: []\n", "--force")
    assert code == 0
    assert out.read_text() != "mine"
