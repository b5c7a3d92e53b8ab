import asyncio
import contextlib
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from dsqlproxy.emulator.backend import BackendRefused
from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.pumps import MessageTooLarge, RuledStream, SplicedStream
from dsqlproxy.pgproto.codes import BackendType, FrontendType
from dsqlproxy.pgproto.framing import Frame, frame
from dsqlproxy.pgproto.messages import TERMINATE
from tests.emulator.kit import Client, started, until

SYNC = frame(FrontendType.SYNC)
QUERY = frame(FrontendType.QUERY, b"select 1\0")


def chunks_of(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


class TestStreams:
    @given(cuts=st.lists(st.integers(0, 1000)))
    def test_splicing_changes_nothing_however_the_bytes_come(
        self, cuts: list[int]
    ) -> None:
        stream = SplicedStream.from_client()
        data = QUERY + SYNC + QUERY
        assert b"".join(stream.take(chunk) for chunk in chunks_of(data, cuts)) == data
        assert stream.at_boundary

    @given(cuts=st.lists(st.integers(0, 1000)))
    def test_rules_see_each_frame_once_however_the_bytes_come(
        self, cuts: list[int]
    ) -> None:
        seen: list[Frame] = []

        def translate(frame: Frame) -> list[bytes]:
            seen.append(frame)
            return [b"<", bytes((frame.type,)), b">"]

        stream = RuledStream(translate, max_bytes=1000)
        passed = [stream.take(chunk) for chunk in chunks_of(QUERY + SYNC, cuts)]
        assert b"".join(passed) == b"<Q><S>"
        assert [kind for kind, _ in seen] == [FrontendType.QUERY, FrontendType.SYNC]

    def test_the_middle_of_a_frame_is_no_boundary(self) -> None:
        stream = SplicedStream.from_backend()
        row = frame(BackendType.DATA_ROW, bytes(100))
        assert stream.take(row[:50]) == row[:50]
        assert not stream.at_boundary
        assert stream.take(row[50:]) == row[50:]
        assert stream.at_boundary

    @pytest.mark.parametrize("length", [10 * 1024 * 1024 + 1, 0x7FFFFFFF])
    def test_a_message_above_the_limit_is_found_by_its_header(
        self, length: int
    ) -> None:
        with pytest.raises(MessageTooLarge):
            SplicedStream.from_client().take(b"Q" + length.to_bytes(4) + b"select")

    def test_noise_passes_for_postgresql_to_judge(self) -> None:
        stream = SplicedStream.from_client()
        assert stream.take(b"\xff" * 20) == b"\xff" * 20
        assert not stream.at_boundary


class TestEnds:
    async def test_terminate_ends_the_session(self, postgres: EmbeddedPostgres) -> None:
        async with started(postgres) as emulator, Client.session(emulator) as client:
            await client.wire.send(TERMINATE)
            await client.wire.receive_end()
            await until(lambda: emulator.open_sessions == 0)

    async def test_a_client_that_leaves_gets_its_last_statement_done(
        self, postgres: EmbeddedPostgres
    ) -> None:
        await postgres.execute(
            "create table if not exists last_words (said text)",
            "truncate last_words",
            "grant all on last_words to admin",
        )
        async with started(postgres) as emulator:
            async with Client.session(emulator) as client:
                await client.send_query("insert into last_words values ('bye')")
            await until(lambda: emulator.open_sessions == 0)
            async with Client.session(emulator) as client:
                async with asyncio.timeout(5):
                    while await client.query("table last_words") != ["bye"]:
                        pass

    async def test_a_client_that_leaves_within_a_message_ends_the_session(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with started(postgres) as emulator:
            async with Client.session(emulator) as client:
                await client.wire.send(QUERY[:7])
            await until(lambda: emulator.open_sessions == 0)

    async def test_a_backend_that_ends_says_its_own_last_word(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with started(postgres) as emulator, Client.session(emulator) as client:
            await postgres.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where usename = 'admin'"
            )
            assert (await client.refusal()).sqlstate == "57P01"

    async def test_noise_is_answered_by_postgresql(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with started(postgres) as emulator, Client.session(emulator) as client:
            await client.wire.send(frame(ord("?"), b"noise"))
            assert (await client.refusal()).sqlstate == "08P01"


class TestBackpressure:
    async def test_a_client_that_does_not_read_stops_postgresql(
        self, postgres: EmbeddedPostgres
    ) -> None:
        rows, width = 20_000, 5000
        async with started(postgres) as emulator, Client.session(emulator) as client:
            await client.send_query(
                "select repeat('x', 5000) from generate_series(1, 20000)"
            )
            await until_waiting_to_write(postgres)
            received = 0
            async with asyncio.timeout(20):
                for _ in range(rows + 1):
                    received += len((await client.wire.receive_frame()).body)
            assert received > rows * width
            assert emulator.open_sessions == 1

    async def test_a_backend_that_does_not_read_stops_the_client(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with started(postgres) as emulator, Client.session(emulator) as client:
            await client.send_query("select pg_sleep(0.3)")
            comment = frame(
                FrontendType.QUERY, b"select 2 --" + b"-" * 5_000_000 + b"\0"
            )
            sent = 0
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.15):
                    for sent in range(20):  # noqa: B007 - how far it came
                        await client.wire.send(comment)
            assert sent < 19
            assert emulator.open_sessions == 1


async def until_waiting_to_write(postgres: EmbeddedPostgres) -> None:
    """Wait until a session of PostgreSQL waits for its client to read."""
    stuck = (
        "do $$ begin perform 1 from pg_stat_activity where usename = 'admin' "
        "and wait_event = 'ClientWrite'; "
        "if not found then raise 'not yet'; end if; end $$"
    )
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(BackendRefused):  # "not yet"
                await postgres.execute(stuck)
                return
