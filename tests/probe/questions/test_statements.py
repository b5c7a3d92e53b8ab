"""Answers about prepared statements that no emulator gives."""

from dsqlproxy.pgproto.codes import FrontendType
from dsqlproxy.pgproto.framing import Frame
from tests.kit.frames import error, ready, server
from tests.probe.kit import Answering, answer_of, refusing
from tests.upstream.wire import Authority


def taking(count: int) -> Answering:
    """Take so many Parses, then refuse until the next Sync."""
    left = count
    refused = False

    def answer(one: Frame) -> bytes | None:
        nonlocal left, refused
        match one.type:
            case FrontendType.SYNC:
                refused = False
                return ready()
            case _ if refused:
                return b""
            case FrontendType.PARSE if left:
                left -= 1
                return server("1")
            case FrontendType.PARSE:
                refused = True
                return error("too many statements", sqlstate="54000")
            case FrontendType.EXECUTE:
                return server("C")
            case _:
                return b""

    return answer


async def test_a_limit_of_statements_is_found(authority: Authority) -> None:
    answer = await answer_of("named_statements", taking(7), authority)
    assert answer.value == "7 of 50"
    assert answer.evidence["types"] == "1*7 E Z"
    assert answer.evidence["the last one"] == "ok"
    assert answer.evidence["in pg_prepared_statements"] == "ERROR 54000"
    assert answer.evidence["text"] == "ERROR 54000: too many statements"


async def test_a_cluster_may_take_no_statement_at_all(authority: Authority) -> None:
    assert (
        await answer_of("named_statements", refusing(), authority)
    ).value == "0 of 50"
    stale = await answer_of("stale_statement", refusing("42P01"), authority)
    assert stale.value == "Parse: ERROR 42P01"


async def test_a_stale_statement_may_be_described_all_the_same(
    authority: Authority,
) -> None:
    def answering(one: Frame) -> bytes | None:
        match one.type:
            case FrontendType.SYNC | FrontendType.QUERY:
                return ready()
            case FrontendType.DESCRIBE:
                return server("tT")
            case FrontendType.PARSE:
                return server("1")
            case _:
                return b""

    answer = await answer_of("stale_statement", answering, authority)
    assert answer.value == "ok"
    assert answer.evidence["text"] == "none"


async def test_sequences_may_be_refused_or_answered(authority: Authority) -> None:
    refused = await answer_of("sequences", refusing(), authority)
    assert refused.value == "ERROR 0A000, ERROR 0A000"
    answered = await answer_of("sequences", lambda _: server("DCZ"), authority)
    assert answered.value == "ok, ok"
    assert answered.evidence["texts"] == {}
