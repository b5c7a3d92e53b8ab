"""The rules in front of a real PostgreSQL, frame by frame."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import given, strategies as st

from dsqlproxy.emulator.rules import ClusterState, SqlRules
from dsqlproxy.pgproto.codes import BackendType, FrontendType
from dsqlproxy.pgproto.framing import Frame, FrameReader, frame
from dsqlproxy.pgproto.messages import SYNC, ErrorResponse, ParameterStatus
from tests.kit.ruled import (
    FAILED,
    NO_TRUNCATE,
    ROW_LIMIT,
    RawClient,
    RuledServer,
    bind,
    close_statement,
    describe_portal,
    describe_statement,
    direct,
    errors,
    execute,
    extended,
    faults_with,
    insert_rows,
    parse,
    query,
    seeded,
    status,
    tags,
    the_error,
    types,
)

_FLUSH = frame(FrontendType.FLUSH)
_COPY_DONE = frame(FrontendType.COPY_DONE)


# -- simple queries ---------------------------------------------------------------


async def test_what_needs_no_rule_passes_as_it_was_sent(
    server: RuledServer, client: RawClient
) -> None:
    texts = ["SELECT 1; /* a */ BEGIN; COMMIT", "SET search_path = public", "", "-- x"]
    for text in texts:
        await client.ask(query(text))
    sent = [body[:-1].decode() for kind, body in server.sent if kind == ord("Q")]
    assert sent == texts


async def test_only_the_refused_statement_of_a_query_is_replaced(
    client: RawClient,
) -> None:
    received = await client.ask(query("SELECT 1; TRUNCATE t; SELECT 2"))
    assert types(received) == "TDCEZ"
    assert errors(received) == [NO_TRUNCATE]
    assert status(received) == "I"


async def test_a_refusal_undoes_what_came_before_it_in_the_query(
    client: RawClient,
) -> None:
    received = await client.ask(query("INSERT INTO t VALUES (1); TRUNCATE t"))
    assert tags(received) == ["INSERT 0 1"]
    assert errors(received) == [NO_TRUNCATE]
    assert await client.count() == 0


async def test_a_committed_part_of_a_query_stays_committed(client: RawClient) -> None:
    sql = "BEGIN; INSERT INTO t VALUES (1); COMMIT; INSERT INTO t VALUES (2); LOCK t"
    received = await client.ask(query(sql))
    assert tags(received) == ["BEGIN", "INSERT 0 1", "COMMIT", "INSERT 0 1"]
    assert await client.count() == 1


async def test_a_syntax_error_is_found_before_a_refusal(client: RawClient) -> None:
    for sql in ("TRUNCATE t t", "TRUNCATE t; SELECT FROM FROM", "TRUNCATE 'x"):
        received = await client.ask(query(sql))
        assert [code for code, _ in errors(received)] == ["42601"], sql


async def test_a_refusal_shows_nothing_of_how_it_was_made(client: RawClient) -> None:
    for message in (query("TRUNCATE t"), extended("TRUNCATE t") + SYNC):
        received = await client.ask(message)
        (error,) = [body for kind, body in received if kind == ord("E")]
        codes = [code for code, _ in ErrorResponse.decode(error).fields]
        assert set("SVCM") <= set(codes)
        assert not set("WFLRPqp") & set(codes)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES (1); SELECT é, nope FROM t",
        "/* é */ INSERT INTO t (nope) VALUES (1)",
        "SELECT 1; INSERT INTO t VALUES (1; SELECT 2",
        "CREATE TABLE x (a nonsense)",
        "SELECT version(), nope",
        "CREATE UNIQUE INDEX ON t (nope)",
        "INSERT INTO t VALUES ('unfinished); TRUNCATE t",
    ],
)
async def test_error_positions_are_those_of_the_clients_text(
    database: Path, client: RawClient, sql: str
) -> None:
    ruled_sql = sql.replace(" INDEX ON", " INDEX ASYNC ON")
    shift = len(ruled_sql) - len(sql)
    async with direct(database) as postgres:
        expected = the_error(await postgres.ask(query(sql)))
    received = the_error(await client.ask(query(ruled_sql)))
    assert received.message == expected.message
    assert received.get("F") == expected.get("F")
    if position := expected.get("P"):
        moved = shift if int(position) > 20 else 0
        assert int(received.get("P")) == int(position) + moved
    if shift or "SELECT 1" in sql:
        return
    single = await client.ask(extended(ruled_sql) + SYNC)
    async with direct(database) as postgres:
        expected = the_error(await postgres.ask(extended(sql) + SYNC))
    assert the_error(single).get("P") == expected.get("P")


# -- the extended protocol --------------------------------------------------------


async def test_a_refused_parse_is_skipped_to_sync_like_any_other(
    client: RawClient,
) -> None:
    received = await client.ask(
        extended("SELECT 1") + extended("TRUNCATE t") + extended("SELECT 2") + SYNC
        + extended("SELECT 3") + SYNC
    )  # fmt: skip
    received += await client.until_ready()
    assert types(received) == "12TDCEZ12TDCZ"
    assert errors(received) == [NO_TRUNCATE]


async def test_messages_after_an_error_are_ignored_until_sync(
    client: RawClient,
) -> None:
    client.send(extended("TRUNCATE t") + _FLUSH)
    await client.until(BackendType.ERROR_RESPONSE)
    received = await client.ask(query("SELECT 1"), extended(insert_rows(1)), SYNC)
    assert types(received) == "Z"
    assert await client.count() == 0


async def test_in_a_failed_transaction_a_refused_parse_says_so(
    client: RawClient,
) -> None:
    await client.ask(query("BEGIN; SELECT 1 / 0"))
    for sql in ("TRUNCATE t", insert_rows(1), "CREATE TABLE x (a int)"):
        assert errors(await client.ask(extended(sql) + SYNC)) == [FAILED]
    assert tags(await client.ask(extended("ROLLBACK") + SYNC)) == ["ROLLBACK"]


async def test_prepared_statements_keep_their_rules(client: RawClient) -> None:
    await client.ask(parse(insert_rows(3001), "s") + describe_statement("s") + SYNC)
    run = bind("s", "p") + execute("p") + SYNC
    for _ in range(2):
        assert errors(await client.ask(run)) == [ROW_LIMIT]
    received = await client.ask(close_statement("s") + parse("SELECT 1", "s") + run)
    assert types(received) == "312DCZ"


async def test_a_parse_that_fails_does_not_change_what_is_known(
    client: RawClient,
) -> None:
    await client.ask(parse(insert_rows(3001), "s") + SYNC)
    received = await client.ask(parse("SELECT 1", "s") + SYNC)
    assert [code for code, _ in errors(received)] == ["42P05"]
    received = await client.ask(parse("SELECT FROM FROM", "n") + parse("x", "s") + SYNC)
    assert types(received) == "EZ"
    assert errors(await client.ask(bind("s") + execute() + SYNC)) == [ROW_LIMIT]


async def test_deallocate_all_is_accepted_even_of_our_own(client: RawClient) -> None:
    await client.ask(parse(insert_rows(1), "s") + bind("s") + execute() + SYNC)
    assert tags(await client.ask(query("DEALLOCATE ALL"))) == ["DEALLOCATE ALL"]
    received = await client.ask(bind("s") + SYNC)
    assert [code for code, _ in errors(received)] == ["26000"]
    assert types(await client.ask(extended(insert_rows(1)) + SYNC)) == "12nCZ"


async def test_describing_an_asynchronous_statement_announces_its_row(
    client: RawClient,
) -> None:
    received = await client.ask(
        parse("CREATE INDEX ASYNC i ON t (a)", "s") + describe_statement("s")
        + bind("s") + describe_portal() + execute() + SYNC
    )  # fmt: skip
    assert types(received) == "1tT2TDCZ"
    assert tags(received) == ["CREATE INDEX"]


async def test_function_calls_and_empty_statements_are_answered(
    client: RawClient,
) -> None:
    pg_backend_pid = 2026
    body = pg_backend_pid.to_bytes(4, "big") + bytes(6)
    assert types(await client.ask(frame(FrontendType.FUNCTION_CALL, body))) == "VZ"
    wrong = frame(FrontendType.FUNCTION_CALL, bytes(10))
    assert types(await client.ask(wrong)) == "EZ"
    assert types(await client.ask(extended("") + SYNC)) == "12nIZ"
    assert types(await client.ask(query(""))) == "IZ"
    received = await client.ask(parse("SELECT 1; TRUNCATE t") + SYNC)
    assert [code for code, _ in errors(received)] == ["42601"]


async def test_an_error_at_sync_is_the_commits(client: RawClient) -> None:
    for sql in (
        "CREATE TABLE p (id int PRIMARY KEY)",
        "CREATE TABLE c (p int REFERENCES p (id) DEFERRABLE INITIALLY DEFERRED)",
    ):
        await client.ask(query(sql))
    received = await client.ask(extended("INSERT INTO c VALUES (1)") + SYNC)
    assert types(received) == "12nCEZ"
    received = await client.ask(query("INSERT INTO c VALUES (1)"))
    assert types(received) == "EZ"


_SIMPLE = ["SELECT 1", "BEGIN", "COMMIT", "ROLLBACK", "SELECT 1; SELECT 2", ""]
_STATEMENTS = [
    *("SELECT a FROM t LIMIT 0", "SELECT generate_series(1, 3)", "BEGIN", "COMMIT"),
    *("INSERT INTO t VALUES (1)", "UPDATE t SET a = 1 WHERE false", "ROLLBACK"),
    *("SELECT 1 / 0", "nonsense", "INSERT INTO t VALUES ('x')", "SET search_path = x"),
    *("SHOW DateStyle", "RESET ALL", "", "INSERT INTO t VALUES (1) RETURNING a"),
    "WITH x AS (DELETE FROM t WHERE false RETURNING a) SELECT count(*) FROM x",
]


def _random_messages(random: Random) -> bytes:
    messages = b""
    for _ in range(random.randrange(1, 8)):
        choice = random.randrange(6)
        if choice == 0:
            messages += query(random.choice(_SIMPLE + _STATEMENTS))
        elif choice == 1:
            messages += SYNC
        elif choice == 2:
            sql = random.choice(_STATEMENTS)
            messages += close_statement("n") + parse(sql, "n") + describe_statement("n")
        elif choice == 3:
            messages += bind("n", "p") + execute("p", rows=random.randrange(3))
        else:
            messages += extended(random.choice(_STATEMENTS))
    return messages + SYNC


@pytest.mark.parametrize("seed", range(12))
async def test_random_pipelines_are_answered_as_by_postgresql(
    database: Path, client: RawClient, seed: int
) -> None:
    random = seeded(seed)
    async with direct(database) as postgres:
        for _ in range(12):
            messages = _random_messages(random)
            marker = query("ROLLBACK") + query("SELECT 'end of the pipeline'")
            answers = []
            for session in (postgres, client):
                session.send(messages + marker)
                answers.append(await _until_marker(session))
            assert answers[0] == answers[1]


async def _until_marker(client: RawClient) -> list[tuple[int, bytes]]:
    received: list[Frame] = []
    while not received or b"end of the pipeline" not in received[-1].body:
        received.append(await client.receive())
    received += await client.until_ready()
    return [
        (kind, b"" if kind in b"ENT" else body) for kind, body in received if kind != 83
    ] + [(0, "".join(code for code, _ in errors(received)).encode())]


@given(st.sampled_from(b"QPBDECSHFdcfX"), st.binary(max_size=30))
def test_noise_from_a_client_raises_nothing_and_goes_on(kind: int, body: bytes) -> None:
    rules = SqlRules(cluster=ClusterState(), faults=faults_with())
    assert b"".join(rules.from_client(Frame(kind, body)))


# -- what is shown ----------------------------------------------------------------


async def test_versions_are_those_of_a_cluster(server: RuledServer) -> None:
    async with await server.connect() as connection:
        assert connection.info.server_version == 160015
        assert connection.info.parameter_status("server_version") == "16.15"
        for sql, expected in (
            ("SHOW server_version", "16.15"),
            ("SHOW server_version_num", "160015"),
            ("SELECT current_setting('server_version')", "16.15"),
            ("SELECT version()", "PostgreSQL 16"),
            ("SHOW transaction_isolation", "repeatable read"),
        ):
            for prepare in (True, False):
                cursor = await connection.execute(sql, prepare=prepare)
                assert await cursor.fetchone() == (expected,)
        cursor = await connection.execute("SHOW ALL")
        shown = {row[0]: row[1] for row in await cursor.fetchall()}
        assert shown["server_version"] == "16.15"


def test_a_login_may_pass_through_the_rules() -> None:
    rules = SqlRules(cluster=ClusterState(), faults=faults_with())
    status_frame = ParameterStatus("server_version", "16.14").encode()
    (received,) = FrameReader().feed(status_frame)
    assert rules.from_backend(received) == [
        ParameterStatus("server_version", "16.15").encode()
    ]
    ready = Frame(BackendType.READY_FOR_QUERY, b"I")
    assert rules.from_backend(ready) == [frame(*ready)]
