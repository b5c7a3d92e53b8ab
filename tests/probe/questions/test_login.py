"""Answers about the way in that no emulator gives."""

import pytest

from dsqlproxy.errors import ConnectionLost, UpstreamUnavailable
from dsqlproxy.pgproto.codes import BackendType
from dsqlproxy.pgproto.framing import Frame, frame
from dsqlproxy.pgproto.messages import BackendKeyData
from dsqlproxy.pgproto.startup import (
    PROTOCOL_3_0,
    PROTOCOL_3_2,
    SSLRequest,
    StartupMessage,
)
from dsqlproxy.probe.trials import TRIALS
from tests.kit.frames import command_complete, data_row, ready
from tests.kit.scripted import Conversation, scripted_server
from tests.probe.kit import (
    QUICK,
    always,
    answer_of,
    ask,
    cluster_at,
    refusing,
    scripted_cluster,
)
from tests.upstream.wire import (
    CLEARTEXT,
    GREETING,
    OK,
    READY,
    Authority,
    authentication,
    refusal,
)

WILDCARD = "*.dsql.us-east-1.on.aws"


async def test_a_cluster_may_know_one_way_only(authority: Authority) -> None:
    async def script(peer: Conversation) -> None:
        if await peer.receive(8) == SSLRequest().encode():
            await peer.send(b"S")
            await peer.start_tls(authority.server_context())

    async with scripted_cluster(script, authority) as cluster:
        answer = await ask("tls", cluster)
    assert answer.value == "SSLRequest"
    ways = answer.evidence["ways"]
    assert isinstance(ways, dict)
    assert ways["direct TLS"].startswith("could not begin TLS")


async def test_without_tls_there_is_no_answer(authority: Authority) -> None:
    async def script(peer: Conversation) -> None:
        await peer.receive(1)

    async with scripted_cluster(script, authority) as cluster:
        with pytest.raises(UpstreamUnavailable, match="direct TLS"):
            await ask("tls", cluster)


async def test_another_authentication_is_told_byte_for_byte(
    authority: Authority,
) -> None:
    mechanisms = b"SCRAM-SHA-256\0\0"

    async def script(peer: Conversation) -> None:
        await peer.start_tls(authority.server_context())
        await peer.receive_packet()
        await peer.send(authentication(10, mechanisms))
        await peer.receive_end()

    async with scripted_cluster(script, authority) as cluster:
        answer = await ask("authentication_request", cluster)
    assert answer.value == "code 10"
    assert answer.evidence["bodies"] == [(b"\0\0\0\x0a" + mechanisms).hex()]
    assert answer.evidence["types until ready"] == "R"
    assert answer.evidence["seconds"] is None


async def test_who_asks_for_nothing_has_no_authentication(
    authority: Authority,
) -> None:
    async def script(peer: Conversation) -> None:
        await peer.start_tls(authority.server_context())
        await peer.receive_packet()

    async with scripted_cluster(script, authority) as cluster:
        with pytest.raises(ConnectionLost):
            await ask("authentication_request", cluster)
        with pytest.raises(ConnectionLost):
            await ask("token_over_a_week", cluster)


async def test_a_reported_search_path_shows(authority: Authority) -> None:
    status = frame(BackendType.PARAMETER_STATUS, b"search_path\0public\0")
    greeting = OK + status + READY
    answer = await answer_of(
        "parameter_status", always(None), authority, greeting=greeting
    )
    assert answer.value == "search_path is reported"


async def test_a_key_of_zeros_shows(authority: Authority) -> None:
    greeting = OK + BackendKeyData(0, b"\0\0\0\0").encode() + READY
    answer = await answer_of(
        "backend_key_data", refusing(), authority, greeting=greeting
    )
    assert answer.value == "present"
    assert answer.evidence == {
        "pg_backend_pid()": "ERROR 0A000",
        "key bytes": 4,
        "key is all zeros": True,
        "process id is zero": True,
    }


@pytest.mark.parametrize(
    ("greeting", "value"),
    [
        (OK + BackendKeyData(1, b"k" * 32).encode() + READY, "3.2"),
        (refusal("unsupported", sqlstate="0A000"), "FATAL 0A000"),
    ],
)
async def test_protocol_3_2_may_be_taken_or_refused(
    greeting: bytes, value: str, authority: Authority
) -> None:
    answer = await answer_of("protocol_3_2", always(None), authority, greeting=greeting)
    assert answer.value == value
    assert answer.evidence["key bytes"] == (32 if value == "3.2" else None)


async def test_protocol_3_2_is_what_is_asked_for(authority: Authority) -> None:
    seen: list[object] = []

    async def script(peer: Conversation) -> None:
        await peer.start_tls(authority.server_context())
        seen.append(await peer.receive_packet())

    async with scripted_cluster(script, authority) as cluster:
        await ask("protocol_3_2", cluster)
        await ask("protocol_option", cluster)
    newer, optional = seen
    assert isinstance(newer, StartupMessage)
    assert newer.version == PROTOCOL_3_2
    assert isinstance(optional, StartupMessage)
    assert optional.version == PROTOCOL_3_0
    assert optional.protocol_options == ("_pq_.dsqlproxy_probe",)


async def test_a_protocol_option_may_pass_unnoticed(authority: Authority) -> None:
    answer = await answer_of("protocol_option", always(None), authority)
    assert answer.value == "accepted"


async def test_startup_options_may_be_taken(authority: Authority) -> None:
    answer = await answer_of("startup_options", always(None), authority)
    assert answer.value == "accepted"
    assert answer.evidence["first text"] == ""


async def test_settings_may_be_refused_at_startup(authority: Authority) -> None:
    greeting = refusal('"timezone" not supported', sqlstate="0A000")
    answer = await answer_of(
        "startup_settings", always(None), authority, greeting=greeting
    )
    assert answer.value == "FATAL 0A000"


async def test_settings_may_be_taken_and_ignored(authority: Authority) -> None:
    def answering(one: Frame) -> bytes | None:
        if b"current_setting" not in one.body:
            return None
        value = b"off" if b"enable_" in one.body else b"other"
        return data_row(value) + command_complete("SELECT 1") + ready()

    answer = await answer_of("startup_settings", answering, authority)
    assert answer.value == "accepted, not all as given"
    ignored = answer.evidence["not as given"]
    assert isinstance(ignored, list)
    expected = [name for name, value in TRIALS.items() if value != "off"]
    assert [one.partition(" ")[0] for one in ignored] == expected


async def test_a_certificate_of_one_name_takes_no_other(authority: Authority) -> None:
    async def script(peer: Conversation) -> None:
        try:
            await peer.start_tls(authority.server_context())
        except OSError:
            pass  # the alert that says so
        else:
            await peer.receive_rest()

    async with scripted_server(script) as server:
        answer = await ask("other_server_name", cluster_at(server, authority))
    assert answer.value == "no TLS"


async def test_an_unknown_name_may_be_let_through(authority: Authority) -> None:
    async def asks_nothing(peer: Conversation) -> None:
        await peer.start_tls(authority.server_context(WILDCARD))
        await peer.receive_rest()

    async def asks(peer: Conversation) -> None:
        await peer.start_tls(authority.server_context(WILDCARD))
        await peer.receive_packet()
        await peer.send(CLEARTEXT)
        await peer.receive_end()

    async with scripted_server(asks_nothing, asks) as server:
        answer = await ask("other_server_name", cluster_at(server, authority))
    assert answer.value == "asks for a password"
    assert answer.evidence["types"] == "R"


async def test_any_token_may_be_taken(authority: Authority) -> None:
    for key in ("token_over_a_week", "expired_token", "unknown_role"):
        answer = await answer_of(
            key, always(None), authority, greeting=GREETING, pace=QUICK
        )
        assert answer.value == "accepted"


async def test_a_token_of_a_week_is_claimed_to_be_longer(authority: Authority) -> None:
    passwords = []

    async def script(peer: Conversation) -> None:
        await peer.start_tls(authority.server_context())
        await peer.receive_packet()
        await peer.send(CLEARTEXT)
        passwords.append((await peer.receive_frame()).body)

    async with scripted_cluster(script, authority) as cluster:
        await ask("token_over_a_week", cluster)
    assert b"&X-Amz-Expires=604801&" in passwords[0]
