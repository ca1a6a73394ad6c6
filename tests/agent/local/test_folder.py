from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from agent.local.child import LocalError
from agent.local.folder import LocalFolder

_PAGE = "http://127.0.0.1:9877/"


def test_ports_and_secrets_are_the_same_in_the_next_run(tmp_path: Path) -> None:
    with LocalFolder(tmp_path / "d", page=_PAGE) as first:
        before = (first.ports(("postgres", "nats")), first.secret("postgres"), first.secret("nats"))
    with LocalFolder(tmp_path / "d", page=_PAGE) as second:
        assert (
            second.ports(("postgres", "nats")),
            second.secret("postgres"),
            second.secret("nats"),
        ) == before
        assert second.moved == []
    assert before[1] != before[2]


def test_a_port_taken_meanwhile_is_replaced_and_told(tmp_path: Path) -> None:
    with LocalFolder(tmp_path, page=_PAGE) as first:
        old = first.ports(("auth", "chat"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", old["auth"]))
        taken.listen()
        with LocalFolder(tmp_path, page=_PAGE) as second:
            new = second.ports(("auth", "chat"))
            assert second.moved == ["auth"]
    assert new["chat"] == old["chat"]
    assert new["auth"] != old["auth"]


def test_a_second_holder_is_told_who_has_it(tmp_path: Path) -> None:
    with LocalFolder(tmp_path, page=_PAGE), pytest.raises(LocalError) as caught:
        LocalFolder(tmp_path, page="http://127.0.0.1:1/").__enter__()
    text = str(caught.value)
    assert text.startswith(f"{tmp_path} is in use: gaia up runs there since ")
    assert f"as pid {os.getpid()}, status page {_PAGE}. Stop it with Ctrl-C" in text


def test_nothing_of_the_lock_is_left(tmp_path: Path) -> None:
    with LocalFolder(tmp_path, page=_PAGE):
        assert (tmp_path / "lock").exists()
    assert not (tmp_path / "lock").exists()


def test_a_lock_left_by_a_killed_holder_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text('{"pid": 1, "since_s": 0, "page": "x"}')
    with LocalFolder(tmp_path, page=_PAGE):
        pass


def test_secrets_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    with LocalFolder(tmp_path / "d", page=_PAGE) as folder:
        folder.secret("postgres")
    assert (tmp_path / "d" / "local.json").stat().st_mode & 0o777 == 0o600


def test_a_damaged_memory_is_not_replaced_by_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "local.json").write_text("{")
    with pytest.raises(LocalError, match=r"local.json.* to start afresh"):
        LocalFolder(tmp_path, page=_PAGE).__enter__()
    assert not (tmp_path / "lock").exists()


def test_a_folder_that_cannot_be_made_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        LocalError, match=r"cannot write .*/file/d: Not a directory; choose another with --data"
    ):
        LocalFolder(tmp_path / "file" / "d", page=_PAGE).__enter__()
