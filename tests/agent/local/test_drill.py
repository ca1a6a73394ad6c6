from __future__ import annotations

import pytest

from agent.cli.drill import Measured, _table


@pytest.mark.parametrize(
    ("measured", "kept"),
    [
        (Measured(part="nats", broken_by="kill", called_s=0.1), True),
        (Measured(part="nats", broken_by="kill", called_s=5.1), False),
        (Measured(part="nats", broken_by="freeze", called_s=5.1), True),
        (Measured(part="nats", broken_by="kill"), False),
        (
            Measured(part="nats", broken_by="kill", called_s=0.1, also_called_for=("chat (service_down)",)),
            False,
        ),
    ],
    ids=["in time", "too late", "soft evidence takes longer", "never", "and for a dependent"],
)
def test_the_promise_is_one_call_in_time(measured: Measured, *, kept: bool) -> None:
    assert measured.kept is kept


def test_the_table_shows_what_did_not_happen() -> None:
    results = [
        Measured(
            part="nats", broken_by="kill", seen_s=0.03, called_s=0.125, back_s=8.4, resolved_s=8.5,
            affected=("auth", "chat"),
        ),
        Measured(part="chat", broken_by="freeze", also_called_for=("gateway (errors)",)),
    ]  # fmt: skip
    assert _table(results).splitlines() == [
        "part       broken by      seen    called      back  resolved  affects",
        "nats       kill          30 ms    125 ms     8.4 s     8.5 s  auth, chat",
        "chat       freeze        never     never     never     never  -; ALSO CALLED FOR gateway (errors)",
    ]
