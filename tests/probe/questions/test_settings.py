"""Answers about settings that no emulator gives."""

import pytest

from dsqlproxy.dsql import ACCEPTED_PARAMETERS
from dsqlproxy.errors import ProtocolError
from dsqlproxy.pgproto.codes import FrontendType
from dsqlproxy.pgproto.framing import Frame, frame
from tests.kit.frames import command_complete, data_row, ready
from tests.probe.kit import Answering, answer_of, refusing
from tests.upstream.wire import Authority

NULL = b"\xff\xff\xff\xff"


def rows(*values: bytes) -> bytes:
    """Answer a simple query with rows of one value."""
    return b"".join(map(data_row, values)) + command_complete("SELECT 1") + ready()


def at_sync(reply: bytes) -> Answering:
    """Answer extended queries, when they are whole, and nothing else."""
    return lambda one: reply if one.type == FrontendType.SYNC else b""


async def test_a_setting_that_a_cluster_does_not_know_is_null(
    authority: Authority,
) -> None:
    names = sorted(ACCEPTED_PARAMETERS)
    body = len(names).to_bytes(2)
    for name in names:
        body += NULL if name.startswith("dsql.") else b"\0\0\0\2on"
    answer = await answer_of(
        "current_settings", at_sync(frame(ord("D"), body) + ready()), authority
    )
    assert answer.value == "dsql.enable_batched_nestloop is null"
    assert answer.evidence["null"] == ["dsql.enable_batched_nestloop"]


async def test_settings_in_another_form_are_no_answer(authority: Authority) -> None:
    with pytest.raises(ProtocolError, match="not one row"):
        await answer_of("current_settings", at_sync(rows(b"on")), authority)


async def test_a_setting_that_is_ignored_shows(authority: Authority) -> None:
    answer = await answer_of("set_config", sets_nothing, authority)
    assert answer.value == "9 of 18"
    assert answer.evidence["ok"] == [
        name
        for name in sorted(ACCEPTED_PARAMETERS)
        if name.startswith(("enable_", "dsql."))
    ]
    assert "reads 'off' afterwards" in answer.evidence
    assert "first text" not in answer.evidence


def sets_nothing(one: Frame) -> bytes | None:
    """Say that all went well, and that every setting is off."""
    match one.type:
        case FrontendType.SYNC | FrontendType.QUERY:
            return rows(b"off")
        case FrontendType.TERMINATE:
            return None
        case _:
            return b""


async def test_sources_may_be_hidden(authority: Authority) -> None:
    answer = await answer_of("setting_sources", refusing("42P01"), authority)
    assert answer.value == "ERROR 42P01"


async def test_a_setting_beyond_the_17_shows(authority: Authority) -> None:
    def answering(one: Frame) -> bytes | None:
        if b"count" in one.body:
            return data_row(b"session", b"2") + ready()
        if one.body.startswith(b"SET"):
            return command_complete("SET") + ready()
        return rows(b"TimeZone", b"work_mem")

    answer = await answer_of("setting_sources", answering, authority)
    assert answer.value == "shows what a session sets"
    assert answer.evidence["by source"] == {"session": "2"}
    assert answer.evidence["unknown to the proxy"] == ["work_mem"]


async def test_sources_that_do_not_change_are_of_no_use(authority: Authority) -> None:
    answer = await answer_of("setting_sources", lambda _: rows(), authority)
    assert answer.value == "does not show what a session sets"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("show_all", "ERROR 0A000"),
        ("resets", "none"),
        ("set_config", "none"),
        ("plain_set", "none"),
        ("environment", "ERROR 0A000"),
    ],
)
async def test_a_cluster_may_refuse_all(
    key: str, value: str, authority: Authority
) -> None:
    answer = await answer_of(key, refusing(), authority)
    assert answer.value == value


async def test_show_all_names_settings_that_are_dsqls_own(authority: Authority) -> None:
    answer = await answer_of(
        "show_all", lambda _: rows(b"work_mem", b"dsql.secret"), authority
    )
    assert answer.evidence["names with dsql"] == ["dsql.secret"]
    assert answer.evidence["rows"] == 2
