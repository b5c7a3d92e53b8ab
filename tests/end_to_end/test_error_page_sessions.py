"""docs/errors.md, produced: the proxy refuses a session, or one that lives ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.server import Emulator
from dsqlproxy.session import recovery
from dsqlproxy.situations.situation import Situation
from dsqlproxy.upstream.connector import Connector
from tests.end_to_end.clusters import log_in, proxy_before
from tests.end_to_end.error_rows import Run, produces, psql, psql_of
from tests.end_to_end.wire import RawClient, logged, startup
from tests.kit.scripted import Conversation
from tests.kit.stack import RunningProxy, running_emulator, running_proxy
from tests.upstream.wire import Authority

MOST_BYTES = 10 * 1024 * 1024


class Terminal:
    """A psql that somebody types into."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def type(self, sql: str) -> None:
        """Say something."""
        assert self._process.stdin is not None
        self._process.stdin.write(sql.encode() + b"\n")
        await self._process.stdin.drain()

    async def answer_to(self, sql: str) -> str:
        """Say something that has an answer of one line, and wait for that."""
        await self.type(sql)
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode().rstrip()

    async def errors(self) -> str:
        """End the input, and give what was said on standard error."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        _, errors = await self._process.communicate()
        return errors.decode()


@asynccontextmanager
async def terminal(
    postgres: EmbeddedPostgres, proxy: RunningProxy
) -> AsyncIterator[Terminal]:
    async with psql(psql_of(postgres), proxy) as process:
        yield Terminal(process)


# -- it is refused ---------------------------------------------------------------------


@produces("no-user")
async def test_a_client_that_names_nobody(row: Situation, emulator: Emulator) -> None:
    async with running_proxy(emulator) as proxy:
        async with RawClient.connect(proxy) as client:  # psql always names somebody
            await client.send(startup(user=""))
            error = await client.receive_fatal()
        await Run(row, proxy, emulator).has_sent(error)


@produces("role-not-served")
async def test_a_role_that_is_not_served(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    async with running_proxy(emulator, roles=["admin", "reader"]) as proxy:
        await Run(row, proxy, emulator).by_psql(psql_of(postgres), PGUSER="intruder")


@produces("proxy-full")
async def test_more_sessions_than_there_may_be(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    async with (
        running_proxy(emulator, max_sessions=1) as proxy,
        RawClient.session(proxy),
    ):
        run = Run(row, proxy, emulator, {r"limit is 1\.": "limit is 1000."})
        await run.by_psql(psql_of(postgres))


@produces("internal-error")
async def test_a_bug(
    row: Situation,
    emulator: Emulator,
    postgres: EmbeddedPostgres,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fails(*_: object) -> None:
        raise RuntimeError("a bug, made for a test")

    monkeypatch.setattr(Connector, "open", fails)
    async with running_proxy(emulator) as proxy:
        run = Run(row, proxy, emulator, {r"Session \w+\.": "Session 5f3a9c01."})
        await run.by_psql(psql_of(postgres))


# -- the cluster is lost ---------------------------------------------------------------


@produces("lost-with-a-statement", "lost-with-a-commit")
async def test_a_loss_while_a_statement_runs(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    async def play(peer: Conversation) -> None:
        await log_in(peer)
        await peer.receive_frame()

    sql = {
        "lost-with-a-statement": "select 1",
        "lost-with-a-commit": "update stock set number = number - 1",
    }
    async with proxy_before(emulator, Authority.make(tmp_path), play) as proxy:
        await Run(row, proxy, emulator).by_psql(psql_of(postgres), "-c", sql[row.key])


@produces("lost-in-a-transaction")
async def test_a_loss_within_a_transaction(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    async with running_proxy(emulator) as proxy:
        async with terminal(postgres, proxy) as user:
            assert await user.answer_to("begin;") == "BEGIN"
            emulator.expire_sessions()
            await logged(proxy, "upstream lost")
            await user.type("select 1;")
            errors = await user.errors()
        await Run(row, proxy, emulator).has(errors)


@produces("limit-in-a-transaction")
async def test_a_transaction_at_the_session_limit(
    row: Situation, postgres: EmbeddedPostgres
) -> None:
    async with (
        running_emulator(postgres, session_limit=1.5) as emulator,
        running_proxy(emulator, session_limit="1500ms") as proxy,
    ):
        async with terminal(postgres, proxy) as user:
            assert await user.answer_to("begin;") == "BEGIN"
            await logged(proxy, "upstream lost")
            await user.type("select 1;")
            errors = await user.errors()
        await Run(row, proxy, emulator).has(errors)


@produces("lost-and-not-replaced")
async def test_a_loss_without_another_connection(
    row: Situation, postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "BUDGET_SECONDS", 0.3)
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(AsyncExitStack())
        emulator = await cluster.enter_async_context(running_emulator(postgres))
        proxy = await stack.enter_async_context(running_proxy(emulator))
        async with terminal(postgres, proxy) as user:
            assert await user.answer_to("select 1;") == "1"
            await cluster.aclose()  # nobody listens there any more
            await logged(proxy, "upstream lost")
            await user.type("select 2;")
            errors = await user.errors()
        await Run(row, proxy, emulator).has(errors)


@produces("lost-for-a-fault-of-the-client")
async def test_a_loss_after_a_fault_of_the_client(
    row: Situation, emulator: Emulator, tmp_path: Path
) -> None:
    async def play(peer: Conversation) -> None:
        await log_in(peer)
        await peer.receive(5)

    async with proxy_before(emulator, Authority.make(tmp_path), play) as proxy:
        async with RawClient.session(proxy) as client:
            await client.send(b"Q\0\0\0\0")
            error = await client.receive_fatal()
        await Run(row, proxy, emulator).has_sent(error)


# -- the proxy ends it -----------------------------------------------------------------


@produces("session-limit")
async def test_a_session_that_cannot_be_moved(
    row: Situation, postgres: EmbeddedPostgres
) -> None:
    async with (
        running_emulator(postgres, has_rules=False) as emulator,
        running_proxy(emulator, session_limit="1s") as proxy,
    ):
        async with terminal(postgres, proxy) as user:
            assert await user.answer_to("listen news;") == "LISTEN"
            await logged(proxy, " ending ")
            await user.type("select 1;")
            errors = await user.errors()
        await Run(row, proxy, emulator).has(errors)


@produces("shutting-down")
async def test_the_proxy_shuts_down(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    async with running_proxy(emulator) as proxy:
        async with terminal(postgres, proxy) as user:
            assert await user.answer_to("select 1;") == "1"
            proxy.shutdown.request("test")
            await logged(proxy, " ending ")
            await user.type("select 2;")
            errors = await user.errors()
        await Run(row, proxy, emulator).has(errors)


def statement(length: int) -> str:
    """Give a query whose message says that it has so many bytes."""
    text = "x" * (length - len("select '';") - 4 - 1)
    return f"select '{text}';"


@produces("statement-too-large")
async def test_a_statement_that_is_too_large(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    async with running_proxy(emulator) as proxy:
        async with terminal(postgres, proxy) as user:
            await user.type(statement(MOST_BYTES + 15))
            assert await user.answer_to("select 1;") == "1"
            errors = await user.errors()
        await Run(row, proxy, emulator).has(errors)


@produces("message-too-large")
async def test_a_message_that_is_too_large_in_a_transaction(
    row: Situation, emulator: Emulator, postgres: EmbeddedPostgres
) -> None:
    async with running_proxy(emulator) as proxy:
        async with terminal(postgres, proxy) as user:
            assert await user.answer_to("begin;") == "BEGIN"
            await user.type(statement(MOST_BYTES + 15))
            errors = await user.errors()
        await Run(row, proxy, emulator).has(errors)
