"""``dsqlproxy status`` as people and as programs read it."""

import json

import pytest
from hypothesis import given, strategies as st

from dsqlproxy.commands import status
from dsqlproxy.commands.admin_client import Answer
from dsqlproxy.commands.status import (
    age_text,
    failed_logins,
    held_clients,
    size_text,
    summary,
    table,
)
from dsqlproxy.errors import DsqlProxyError
from tests.commands.kit import admin_of, run_command
from tests.ops import test_admin
from tests.ops.test_admin import running

SESSION: dict[str, object] = {
    "id": "7f3a",
    "listener": "main",
    "client": "127.0.0.1:50312",
    "user": "admin",
    "database": "postgres",
    "application_name": "psql",
    "state": "in_transaction",
    "age_seconds": 3725.4,
    "upstream_age_seconds": None,
    "bytes_in": 512,
    "bytes_out": 1_234_567,
    "swaps": 3,
    "seconds_to_swap": None,
    "pin": "",
}
READY = Answer(ok=True, body={"ok": True})


def test_sessions_stand_in_columns_under_their_names() -> None:
    other = {
        **SESSION,
        "id": "8",
        "upstream_age_seconds": 61,
        "seconds_to_swap": 2819,
        "swaps": 12,
        "pin": "LISTEN",
    }
    assert table([SESSION, other]) == [
        "SESSION  CLIENT           USER   APPLICATION  LISTENER  STATE"
        "             AGE  UPSTREAM  NEXT SWAP  SWAPS     IN     OUT  PIN",
        "7f3a     127.0.0.1:50312  admin  psql         main      in_transaction"
        "  1h02m         -          -      3  512 B  1.2 MB  -",
        "8        127.0.0.1:50312  admin  psql         main      in_transaction"
        "  1h02m     1m01s     46m59s     12  512 B  1.2 MB  LISTEN",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "due"), (0.0, "due"), (0.4, "0s"), (95, "1m35s")]
)
def test_a_swap_that_is_due_is_said_to_be(seconds: float, text: str) -> None:
    headings, line = table([{**SESSION, "seconds_to_swap": seconds}])
    end = headings.index("NEXT SWAP") + len("NEXT SWAP")
    assert line[:end].endswith(f" {text}")


def test_a_proxy_that_knows_no_swaps_can_be_asked_too() -> None:
    known = {"swaps", "seconds_to_swap", "pin"}
    older = {key: value for key, value in SESSION.items() if key not in known}
    assert table([older])[1].endswith("      -          -      -  512 B  1.2 MB  -")


@given(st.text())
def test_an_application_name_can_do_nothing_to_the_terminal(name: str) -> None:
    _, line = table([{**SESSION, "application_name": name}])
    assert line.isprintable()
    assert len(line) < 600


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (59.9, "59s"),
        (60, "1m00s"),
        (725, "12m05s"),
        (3_720, "1h02m"),
        (273_600, "3d04h"),
        (None, "-"),
    ],
)
def test_ages_read_as_people_say_them(seconds: object, text: str) -> None:
    assert age_text(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.0 kB"),
        (123_456, "123 kB"),
        (999_949, "1.0 MB"),
        (5_400_000_000, "5.4 GB"),
        (7_000_000_000_000_000, "7000 TB"),
        (None, "-"),
    ],
)
def test_sizes_have_few_digits_and_a_unit(count: object, text: str) -> None:
    assert size_text(count) == text


def test_the_summary_counts_states() -> None:
    sessions = [{"state": "idle"}, {"state": "active"}, {"state": "idle"}]
    assert summary(READY, sessions) == "ready, 3 sessions (2 idle, 1 active)"
    assert summary(READY, sessions[:1]) == "ready, 1 session (1 idle)"
    assert summary(READY, []) == "ready, no sessions"
    unready = Answer(ok=False, body={"reason": "draining: SIGTERM"})
    assert summary(unready, []) == "not ready: draining: SIGTERM, no sessions"


def test_a_reason_is_told_to_its_end() -> None:
    reason = "no login has worked yet on main, orders, billing, reports, archive, other"
    unready = Answer(ok=False, body={"reason": reason})
    assert summary(unready, []) == f"not ready: {reason}, no sessions"


def test_an_address_is_shown_to_its_end() -> None:
    address = "[fe80:1111:2222:3333:4444:5555:6666:7777%eth0]:50312"
    assert address in table([{**SESSION, "client": address}])[1]


def test_a_login_that_failed_last_is_told_with_its_reason() -> None:
    failed = {
        "last_login": "failed",
        "seconds_ago": 5.2,
        "sqlstate": "08001",
        "message": "could not resolve\nx.dsql.us-east-1.on.aws",
    }
    listeners = {"main": failed, "good": {"last_login": "ok"}, "new": {}}
    assert failed_logins(Answer(ok=True, body={"listeners": listeners})) == [
        "last login on main: failed 5s ago,"
        " 08001 could not resolve\\nx.dsql.us-east-1.on.aws"
    ]
    assert failed_logins(READY) == []


async def test_people_are_told_of_a_login_that_failed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_admin, "ROWS", [])
    async with running() as proxy:
        proxy.health.note_listening()
        proxy.health.note_login_failure(
            "main", sqlstate="08001", message="no way", is_refusal=False
        )
        assert await run_command(status, *admin_of(proxy)) == 0
    told, line = capsys.readouterr().out.splitlines()
    assert told == "last login on main: failed 0s ago, 08001 no way"
    assert line == f"{proxy.address}: ready, no sessions"


async def test_people_get_a_table_and_a_summary(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_admin, "ROWS", [SESSION])
    async with running() as proxy:
        proxy.health.note_listening()
        assert await run_command(status, *admin_of(proxy)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("7f3a")
    assert lines[-1] == f"{proxy.address}: ready, 1 session (1 in_transaction)"


async def test_without_sessions_the_summary_is_enough(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_admin, "ROWS", [])
    async with running() as proxy:
        assert await run_command(status, *admin_of(proxy)) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("not ready: the listeners are not bound yet, no sessions")


async def test_programs_get_one_object(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_admin, "ROWS", [SESSION])
    async with running() as proxy:
        proxy.health.note_listening()
        assert await run_command(status, "--json", *admin_of(proxy)) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sessions"] == [SESSION]
    assert found["readiness"]["ok"] is True


async def test_a_proxy_that_cannot_list_is_an_error() -> None:
    async with running() as proxy:
        proxy.admin._bridge.close()
        with pytest.raises(DsqlProxyError, match="cannot be listed: the proxy is end"):
            await run_command(status, *admin_of(proxy))


def test_the_manual_fits_the_terminal() -> None:
    assert max(map(len, status.HELP.splitlines())) <= 78


def test_clients_that_are_held_are_counted_by_what_they_wait_for() -> None:
    waking, denied = "waits for the cluster", "waits for\x1b credentials"
    held = [{**SESSION, "held_for": why} for why in (waking, denied, waking, "")]
    assert held_clients(held) == [
        f"2 held: {waking}",
        "1 held: waits for\\x1b credentials",
    ]
    assert held_clients([SESSION]) == []
