"""The whole probe: of an emulator, whose answers are known, and of worse clusters."""

import asyncio
import json
from typing import Any

import pytest

from dsqlproxy.commands.clocks import system_clocks
from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.server import wall_clock
from dsqlproxy.errors import TokenError
from dsqlproxy.pgproto.codes import BackendType
from dsqlproxy.pgproto.framing import frame
from dsqlproxy.probe import Answered, ProbeReport, run_probe
from dsqlproxy.probe.catalogue import LONG, QUESTIONS
from dsqlproxy.upstream.connector import UpstreamStartup
from tests.emulator.kit import Client, started, until
from tests.kit.frames import data_row, ready
from tests.kit.scripted import (
    Conversation,
    Script,
    listen_but_never_accept,
    scripted_server,
)
from tests.probe.conftest import Ran
from tests.probe.kit import (
    FAST,
    QUICK,
    STARTUP,
    TOKEN,
    Answering,
    FixedSigner,
    Signer,
    always,
    plays,
    probe,
    refusing,
    scripted_target,
    secrets_of,
)
from tests.upstream.wire import (
    CLEARTEXT,
    CLUSTER,
    Authority,
    authentication,
    refusal,
)

ANSWERS = {
    "tls": "direct TLS and SSLRequest",
    "authentication_request": "code 3",
    "parameter_status": "search_path is not reported",
    "backend_key_data": "present",
    "protocol_3_2": "3.0",
    "protocol_option": "negotiated, named",
    "startup_options": "FATAL 0A000",
    "startup_settings": "accepted",
    "other_server_name": "FATAL 08006",
    "token_over_a_week": "FATAL 08006",
    "expired_token": "FATAL 08006",
    "unknown_role": "FATAL 08P01",
    "environment": "16.15",
    "current_settings": "dsql.enable_batched_nestloop is known",
    "set_config": "all",
    # Only set_config can make the empty search_path; SET makes one of an empty name.
    "plain_set": "17 of 18",
    "setting_sources": "shows what a session sets",
    "show_all": "accepted",
    "resets": "RESET ALL, RESET ROLE, RESET SESSION AUTHORIZATION, DEALLOCATE ALL",
    "cancel": "honoured",
    "lone_sync": "Z (I)",
    "flush": "answered",
    "row_limit": "suspended",
    "function_call": "answered",
    "pipelining": "100 and 100 of 100",
    "named_statements": "50 of 50",
    "stale_statement": "ERROR 42P01",
    "sequences": "ERROR 55000, ERROR 42P01",
}
"""What the emulator is known to answer."""


def evidence_of(report: ProbeReport, key: str) -> Any:
    answer = report.answer_to(key)
    assert answer is not None
    return answer.evidence


# -- of an emulator ------------------------------------------------------------------


def test_every_question_is_answered_by_an_emulator(ran: Ran) -> None:
    assert {
        one.key: one.answer.value if one.answer else one.could_not
        for one in ran.report.answers
    } == ANSWERS
    assert not ran.report.unanswered


@pytest.mark.parametrize(
    ("key", "name", "expected"),
    [
        ("authentication_request", "bodies", ["00000003", "00000000"]),
        ("authentication_request", "types until ready", "R*2 S*14 K Z"),
        ("backend_key_data", "key bytes", 4),
        ("backend_key_data", "process id is zero", False),
        ("backend_key_data", "process id is pg_backend_pid()", True),
        ("protocol_3_2", "types until ready", "v R*2 S*14 K Z"),
        ("protocol_3_2", "key bytes", 4),
        ("startup_settings", "not as given", []),
        ("other_server_name", "types", "E"),
        ("expired_token", "types", "R E"),
        ("current_settings", "null", []),
        ("plain_set", "reads '\"\"' afterwards", ["search_path=''"]),
        ("setting_sources", "of the session after SET timezone", ["TimeZone"]),
        ("setting_sources", "unknown to the proxy", []),
        ("resets", "a statement of Parse after DEALLOCATE ALL", "ERROR 26000"),
        ("cancel", "query", "pg_sleep"),
        ("lone_sync", "three at once", "Z*3"),
        ("flush", "types after Flush", "1 t T"),
        ("flush", "types of its execution", "2 D C Z"),
        ("row_limit", "types", "1 2 T D*2 s D*2 s D C Z"),
        ("row_limit", "rows", ["1", "2", "3", "4", "5"]),
        ("function_call", "types", "V Z"),
        ("named_statements", "types", "1*50 Z"),
        ("named_statements", "in pg_prepared_statements", "50"),
        ("stale_statement", "Describe when it does again", "t T Z, ok"),
    ],
)
def test_evidence_is_what_an_emulator_shows(
    ran: Ran, key: str, name: str, expected: object
) -> None:
    assert evidence_of(ran.report, key)[name] == expected


def test_refusals_are_told_in_the_words_of_the_cluster(ran: Ran) -> None:
    told = {
        key: evidence_of(ran.report, key)["text"]
        for key in ("token_over_a_week", "expired_token", "unknown_role")
    }
    assert "X-Amz-Expires must be less than a week" in told["token_over_a_week"]
    assert "HINT: Signature expired" in told["expired_token"]
    assert "does not exist" in told["unknown_role"]


def test_no_report_holds_a_secret_or_a_name(ran: Ran) -> None:
    text = ran.report.as_text() + json.dumps(ran.report.as_dict())
    assert len(ran.secrets) > 60
    assert [secret for secret in ran.secrets if secret in text] == []


def test_a_run_costs_fifty_logins_at_most(ran: Ran) -> None:
    assert 20 < ran.logins <= 50


def test_a_report_is_json_and_keeps_its_form(ran: Ran) -> None:
    report = json.loads(json.dumps(ran.report.as_dict()))
    assert list(report) == [
        *("format", "program", "asked_at", "region", "role", "is_long", "seconds"),
        *("answers", "left_out"),
    ]
    assert [one["key"] for one in report["answers"]] == [one.key for one in QUESTIONS]
    assert {tuple(one) for one in report["answers"]} == {
        ("key", "question", "matters", "answer", "could_not_be_asked", "evidence",
         "seconds")
    }  # fmt: skip


@pytest.mark.both_loops
async def test_without_key_data_nothing_is_cancelled(
    postgres: EmbeddedPostgres,
) -> None:
    began = wall_clock()
    async with started(
        postgres, clock=lambda: began, has_rules=True, faults=("no-key-data",)
    ) as emulator:
        report = await probe(emulator, pace=FAST)
    values = {one.key: one.answer and one.answer.value for one in report.answers}
    assert values["backend_key_data"] == "absent"
    assert values["cancel"] == "no key"
    assert evidence_of(report, "protocol_3_2")["key bytes"] is None
    # Nothing expires at a cluster whose clock stands still.
    assert values["expired_token"] == "accepted"


async def test_refused_set_config_and_ignored_cancels_show(
    postgres: EmbeddedPostgres,
) -> None:
    faults = ("refuse-set-config", "no-cancel")
    async with started(postgres, has_rules=True, faults=faults) as emulator:
        report = await probe(emulator, pace=FAST)
    values = {one.key: one.answer and one.answer.value for one in report.answers}
    assert values["set_config"] == "none"
    assert len(evidence_of(report, "set_config")["ERROR 0A000"]) == 18
    assert values["plain_set"] == "17 of 18"
    assert values["cancel"] == "ignored"


async def test_a_long_probe_tells_how_sessions_end(postgres: EmbeddedPostgres) -> None:
    told: list[Answered] = []
    async with started(postgres, has_rules=True, session_limit=0.7) as emulator:
        report = await probe(emulator, pace=FAST, is_long=True, on_answer=told.append)
    values = {one.key: one.answer.value for one in report.answers if one.answer}
    for key in (
        *("idle_session", "busy_session", "session_in_transaction"),
        "late_transaction",
    ):
        assert values[key].startswith("closed (FIN) after ")
    assert values["open_pipeline"] == "ok"
    assert evidence_of(report, "idle_session")["seconds"] >= 0.7
    assert evidence_of(report, "late_transaction")["begun after seconds"] >= 0.2
    # As they come: an end that is seen first is told first.
    assert sorted(told, key=lambda one: one.key) == sorted(
        report.answers, key=lambda one: one.key
    )
    assert [one.key for one in report.answers] == [
        one.key for one in (*QUESTIONS, *LONG)
    ]
    assert not any("--probe-long" in one.because for one in report.left_out)


async def test_another_role_is_not_named(postgres: EmbeddedPostgres) -> None:
    startup = UpstreamStartup("reader", (("user", "reader"), ("database", "postgres")))
    async with started(postgres, has_rules=False) as emulator:
        signer = Signer(emulator)
        report = await probe(emulator, signer=signer, startup=startup, pace=FAST)
        secrets = list(secrets_of(emulator, signer.tokens))
    text = report.as_text() + json.dumps(report.as_dict())
    assert report.role == "another"
    reported = evidence_of(report, "parameter_status")["reported"]
    assert reported["session_authorization"] == "<role>"
    assert not [secret for secret in (*secrets, '"reader"') if secret in text]


async def test_nothing_is_left_behind(postgres: EmbeddedPostgres) -> None:
    """Neither objects in the database nor sessions."""
    objects = "select count(*) from pg_class"
    async with started(postgres, has_rules=True) as emulator:
        async with Client.session(emulator) as client:
            before = await client.query(objects)
        await probe(emulator, pace=FAST)
        async with Client.session(emulator) as client:
            assert await client.query(objects) == before
        await until(lambda: not emulator._open)


# -- of worse clusters ---------------------------------------------------------------


async def probe_scripted(
    script: Script, authority: Authority, **arguments: Any
) -> ProbeReport:
    async with scripted_server(script) as server:
        return await run_probe(
            scripted_target(server, authority, timeout_seconds=1.0),
            arguments.pop("signer", FixedSigner()),
            STARTUP,
            **{"clocks": system_clocks(), "pace": QUICK, **arguments},
        )


async def closes(peer: Conversation) -> None:
    await peer.receive(1)


async def resets(peer: Conversation) -> None:
    await peer.receive(1)
    peer.reset()


async def deaf(peer: Conversation) -> None:
    await peer.receive_rest()


@pytest.mark.parametrize("script", [closes, resets, deaf])
@pytest.mark.both_loops
async def test_a_cluster_without_tls_answers_nothing(
    script: Script, authority: Authority
) -> None:
    report = await probe_scripted(script, authority)
    assert report.unanswered == len(QUESTIONS)
    assert "could not be asked: " in report.as_text()


async def test_who_cannot_be_reached_is_tried_three_times_in_a_row(
    authority: Authority,
) -> None:
    with listen_but_never_accept() as port:
        host, number = port.getsockname()
    async with scripted_server(closes) as server:
        server.host, server.port = host, number  # closed by now
        report = await run_probe(
            scripted_target(server, authority),
            FixedSigner(),
            STARTUP,
            clocks=system_clocks(),
            pace=QUICK,
            is_long=True,
        )
    reasons = [one.could_not for one in report.answers]
    assert all("could not connect to <address>" in one for one in reasons[:3])
    assert set(reasons[3:]) == {
        "the cluster could not be reached for the questions before"
    }
    assert len(reasons) == len(QUESTIONS) + len(LONG)
    assert f":{number}" not in report.as_text()


NOISE = bytes(range(255, 0, -1)) * 4


@pytest.mark.parametrize(
    "answering",
    [
        pytest.param(always(None), id="ends the connection"),
        pytest.param(always(b""), id="is silent"),
        pytest.param(always(NOISE), id="sends noise"),
        pytest.param(always(ready()), id="is always ready"),
        pytest.param(always(data_row(b"1", b"2") + ready()), id="sends odd rows"),
        pytest.param(
            always(frame(BackendType.DATA_ROW, b"\0\7\0") + ready()),
            id="sends broken rows",
        ),
        pytest.param(always(data_row(b"1") * 400), id="sends rows without end"),
        pytest.param(refusing(), id="refuses all"),
        pytest.param(refusing("40001"), id="changes its schema all the time"),
    ],
)
async def test_no_session_however_odd_stops_the_probe(
    answering: Answering, authority: Authority
) -> None:
    context = authority.server_context()
    async with asyncio.timeout(20):
        report = await probe_scripted(plays(context, answering), authority)
    by_key = {one.key: one for one in report.answers}
    assert len(by_key) == len(QUESTIONS)
    login = by_key["authentication_request"].answer
    assert login is not None
    assert login.value == "code 3"
    assert not [
        one.could_not for one in report.answers if "unexpected" in one.could_not
    ]


@pytest.mark.parametrize(
    "greeting",
    [
        pytest.param(NOISE, id="noise"),
        pytest.param(authentication(10, b"SCRAM-SHA-256\0\0"), id="another password"),
        pytest.param(CLEARTEXT, id="the token twice"),
        pytest.param(frame(BackendType.AUTHENTICATION, b"\0"), id="half a request"),
        pytest.param(
            authentication(0) + frame(BackendType.BACKEND_KEY_DATA, b"\0"),
            id="half a key",
        ),
        pytest.param(refusal("too many", sqlstate="53300"), id="a refusal"),
    ],
)
async def test_no_login_however_odd_stops_the_probe(
    greeting: bytes, authority: Authority
) -> None:
    script = plays(authority.server_context(), always(None), greeting=greeting)
    async with asyncio.timeout(20):
        report = await probe_scripted(script, authority)
    answered = {one.key for one in report.answers if one.answer is not None}
    assert {"tls", "authentication_request"} & answered
    assert not answered & {"set_config", "cancel", "show_all"}


def quoting(token: str) -> bytes:
    """Refuse with the token and all that a careless server may say of its client."""
    return refusal(
        f"password {token} of arn:aws:iam::111122223333:role/x was wrong",
        detail=f'host "{CLUSTER}" AKIAIOSFODNN7EXAMPLE 10.1.2.3',
        hint="ask account 111122223333",
    )


async def test_a_cluster_that_quotes_the_token_is_not_quoted(
    authority: Authority,
) -> None:
    script = plays(authority.server_context(), always(None), greeting=quoting(TOKEN))
    report = await probe_scripted(script, authority)
    text = report.as_text() + json.dumps(report.as_dict())
    assert "password <token> of <arn> was wrong" in text
    for secret in (
        *(TOKEN, "5e5e5e5e", "k3k3k3k3", "111122223333", CLUSTER.partition(".")[0]),
        *("AKIAIOSFODNN7EXAMPLE", "10.1.2.3"),
    ):
        assert secret not in text


class NoCredentials:
    """A token source that has nothing to sign with."""

    async def sign(self, _request: object) -> Any:
        raise TokenError('profile "secret-name" has no credentials')


async def test_missing_credentials_are_not_an_answer_of_the_cluster(
    authority: Authority,
) -> None:
    script = plays(authority.server_context(), refusing())
    report = await probe_scripted(script, authority, signer=NoCredentials())
    unasked = {one.could_not for one in report.answers if one.answer is None}
    assert unasked == {"no token could be signed"}
    assert "secret-name" not in report.as_text()


class Failing:
    """A token source with a bug."""

    async def sign(self, _request: object) -> Any:
        raise RuntimeError(f"bug with {TOKEN}")


async def test_a_bug_leaves_a_hole_and_no_traceback(authority: Authority) -> None:
    script = plays(authority.server_context(), refusing())
    report = await probe_scripted(script, authority, signer=Failing())
    unasked = {one.could_not for one in report.answers if one.answer is None}
    assert unasked == {"unexpected RuntimeError"}
    assert "bug with" not in report.as_text()


async def test_a_probe_that_is_cancelled_leaves_nothing_open(
    authority: Authority,
) -> None:
    asked = asyncio.Event()

    def silent(_: object) -> bytes:
        asked.set()
        return b""

    async def run() -> None:
        await probe_scripted(plays(authority.server_context(), silent), authority)

    async with asyncio.TaskGroup() as group:
        running = group.create_task(run())
        await asked.wait()
        running.cancel()
    assert running.cancelled()
