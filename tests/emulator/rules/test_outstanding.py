"""COPY: what PostgreSQL ignores within one must not be waited for."""

import pytest

from dsqlproxy.pgproto.codes import BackendType, FrontendType
from dsqlproxy.pgproto.framing import frame
from dsqlproxy.pgproto.messages import SYNC
from tests.kit.ruled import (
    MIXED,
    RawClient,
    bind,
    errors,
    execute,
    extended,
    insert_rows,
    parse,
    query,
    types,
)

_FLUSH = frame(FrontendType.FLUSH)
_COPY_DONE = frame(FrontendType.COPY_DONE)


def _copy_data(rows: int) -> bytes:
    return frame(FrontendType.COPY_DATA, b"1\n" * rows)


@pytest.mark.parametrize("sync_first", [True, False], ids=["libpq", "one Sync"])
@pytest.mark.parametrize(
    ("rows", "answer"), [(3000, "CZ"), (3001, "EZ")], ids=["3000 rows", "3001 rows"]
)
async def test_copy_counts_its_rows_when_the_data_has_ended(
    client: RawClient, rows: int, answer: str, *, sync_first: bool
) -> None:
    start = extended("COPY t FROM STDIN") + (SYNC if sync_first else _FLUSH)
    client.send(start)
    assert types(await client.until(BackendType.COPY_IN_RESPONSE)) == "12nG"
    received = await client.ask(_copy_data(rows), _COPY_DONE, SYNC)
    assert types(received) == answer
    assert await client.count() == (rows if answer == "CZ" else 0)
    assert not errors(await client.ask(extended("SELECT 1") + SYNC))


async def test_copy_sent_in_one_go_is_answered_once(client: RawClient) -> None:
    start = parse("COPY t FROM STDIN") + bind() + execute()
    everything = (start, SYNC, _copy_data(2), _COPY_DONE, SYNC)
    assert types(await client.ask(*everything)) == "12GCZ"
    received = await client.ask(start, _copy_data(3001), _COPY_DONE, SYNC)
    assert types(received) == "12GEZ"
    assert await client.count() == 2


async def test_a_failed_copy_leaves_the_session_in_step(client: RawClient) -> None:
    start = extended("COPY t FROM STDIN") + SYNC
    client.send(start)
    await client.until(BackendType.COPY_IN_RESPONSE)
    fail = frame(FrontendType.COPY_FAIL, b"no\0")
    assert types(await client.ask(fail, SYNC)) == "EZ"
    client.send(start)
    await client.until(BackendType.COPY_IN_RESPONSE)
    client.send(frame(FrontendType.COPY_DATA, b"x\n"), _copy_data(1))
    await client.until(BackendType.ERROR_RESPONSE)
    assert types(await client.ask(_COPY_DONE, SYNC)) == "Z"
    received = await client.ask(extended("COPY nothing FROM STDIN") + SYNC)
    assert types(received) == "12nEZ"
    assert types(await client.ask(extended(insert_rows(1)) + SYNC)) == "12nCZ"


async def test_copy_in_a_simple_query_counts_too(client: RawClient) -> None:
    for rows, answer in ((3000, "CZ"), (3001, "EZ")):
        client.send(query("COPY t FROM STDIN"))
        await client.until(BackendType.COPY_IN_RESPONSE)
        assert types(await client.ask(_copy_data(rows), _COPY_DONE)) == answer
    assert await client.count() == 3000
    received = await client.ask(query("COPY t TO STDOUT"))
    assert types(received) == "H" + "d" * 3000 + "cCZ"


async def test_copy_after_ddl_is_refused_before_it_wants_data(
    client: RawClient,
) -> None:
    received = await client.ask(query("CREATE TABLE x (a int); COPY x FROM STDIN"))
    assert types(received) == "CEZ"
    assert errors(received) == [MIXED]
