"""How sessions end, by the second and by the way."""

from dataclasses import replace

import pytest

from dsqlproxy.pgproto.codes import FrontendType
from dsqlproxy.pgproto.framing import Frame
from tests.kit.frames import error, ready, server
from tests.kit.scripted import Conversation
from tests.probe.kit import PACE, Answering, always, answer_of, ask, scripted_cluster
from tests.upstream.wire import CLEARTEXT, GREETING, Authority

pytestmark = pytest.mark.both_loops

PACE_OF_ENDS = replace(PACE, watch_seconds=0.3, silence_seconds=0.2)


def lives(*, beats: int = 0, answers_queries: bool = True) -> Answering:
    """Answer so many Syncs, then end with a FATAL; queries as told."""
    left = beats

    def answer(one: Frame) -> bytes | None:
        nonlocal left
        match one.type:
            case FrontendType.QUERY:
                return server("CZ") if answers_queries else b""
            case FrontendType.SYNC if left:
                left -= 1
                return ready()
            case FrontendType.SYNC:
                return error("bye", severity="FATAL", sqlstate="57P01")
            case _:
                return b""

    return answer


async def test_a_session_may_outlive_its_limit(authority: Authority) -> None:
    for key in ("idle_session", "session_in_transaction"):
        answer = await answer_of(key, lives(), authority, pace=PACE_OF_ENDS)
        assert answer.value.startswith("still open after ")
        assert answer.evidence["a query then"] == "ok"


async def test_an_open_connection_may_be_dead(authority: Authority) -> None:
    """As a router leaves it that has forgotten it."""
    answer = await answer_of("idle_session", always(b""), authority, pace=PACE_OF_ENDS)
    assert answer.value.startswith("silent after ")
    assert answer.evidence["a query then"] == "silence"


async def test_a_dead_connection_may_show_when_it_is_used(authority: Authority) -> None:
    answer = await answer_of("idle_session", always(None), authority, pace=PACE_OF_ENDS)
    assert answer.value.startswith("closed (FIN) after ")


@pytest.mark.parametrize(
    ("is_reset", "ending"), [(False, "closed (FIN)"), (True, "reset (RST)")]
)
async def test_last_words_and_the_way_of_the_end_are_told(
    is_reset: bool, ending: str, authority: Authority
) -> None:
    async def script(peer: Conversation) -> None:
        await peer.start_tls(authority.server_context())
        await peer.receive_packet()
        await peer.send(CLEARTEXT)
        await peer.receive_frame()
        await peer.send(GREETING)
        await peer.receive_frame()  # the first beat
        await peer.send(ready())
        await peer.receive_frame()
        await peer.send(error("bye", severity="FATAL", sqlstate="57P01"))
        if is_reset:
            await peer.receive_frame()
            peer.reset()

    async with scripted_cluster(script, authority, pace=PACE) as cluster:
        answer = await ask("busy_session", cluster)
    assert answer.value.startswith(f"{ending} after ")
    assert answer.evidence["last words"] == "FATAL 57P01: bye"
    assert answer.evidence["types"] == "Z E"


async def test_a_session_may_end_before_its_late_transaction(
    authority: Authority,
) -> None:
    async def script(peer: Conversation) -> None:
        await peer.start_tls(authority.server_context())
        await peer.receive_packet()
        await peer.send(CLEARTEXT)
        await peer.receive_frame()
        await peer.send(GREETING)

    async with scripted_cluster(script, authority, pace=PACE) as cluster:
        answer = await ask("late_transaction", cluster)
    assert answer.value.startswith("closed (FIN) after ")
    assert "BEGIN" not in answer.evidence


@pytest.mark.parametrize(
    ("at_sync", "value"),
    [
        (error("too old", sqlstate="54000") + ready(), "ERROR 54000"),
        (b"", "silence"),
        (None, "connection closed (FIN)"),
    ],
)
async def test_a_pipeline_may_be_open_too_long(
    at_sync: bytes | None, value: str, authority: Authority
) -> None:
    def answering(one: Frame) -> bytes | None:
        return at_sync if one.type == FrontendType.SYNC else b""

    answer = await answer_of("open_pipeline", answering, authority)
    assert answer.value == value


async def test_a_session_may_end_within_its_pipeline(authority: Authority) -> None:
    answer = await answer_of("open_pipeline", always(None), authority)
    assert answer.value.startswith("closed (FIN) after ")
