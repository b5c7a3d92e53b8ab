"""Tokens, keys and signatures: in no log, no repr, no error, at any level."""

import gc
import logging
import traceback
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
import pytest_asyncio

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.server import Emulator
from dsqlproxy.emulator.sigv4 import TokenVerifier, Verdict
from dsqlproxy.pgproto.startup import CancelRequest
from tests.end_to_end.wire import RawClient, all_ended, query, startup, until
from tests.kit.stack import RunningProxy, running_emulator, running_proxy


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every token that reaches the cluster."""
    seen: list[str] = []
    verify = TokenVerifier.verify

    def spy(self: TokenVerifier, token: str, *, user: str, now: float) -> Verdict:
        seen.append(token)
        return verify(self, token, user=user, now=now)

    monkeypatch.setattr(TokenVerifier, "verify", spy)
    return seen


@pytest_asyncio.fixture
async def emulator(postgres: EmbeddedPostgres) -> AsyncIterator[Emulator]:
    async with running_emulator(postgres, with_session_token=True) as running:
        yield running


@pytest_asyncio.fixture
async def proxy(emulator: Emulator) -> AsyncIterator[RunningProxy]:
    async with running_proxy(emulator, connect_timeout="1s") as running:
        yield running


def secrets_of(emulator: Emulator, tokens: list[str]) -> list[str]:
    """Give all that must not be seen, and the parts of it that are secret alone."""
    assert tokens
    key = emulator.credentials
    assert key.session_token
    signatures = [token.partition("X-Amz-Signature=")[2] for token in tokens]
    assert all(len(signature) == 64 for signature in signatures)
    return [key.secret_access_key, key.session_token[:60], *tokens, *signatures]


def reprs() -> Iterator[str]:
    """Show everything alive that is of the proxy's own making."""
    for thing in gc.get_objects():
        module = str(type(thing).__module__)
        ours = module.startswith(("dsqlproxy.", "asyncio"))
        if ours and not module.startswith("dsqlproxy.emulator"):
            yield repr(thing)


async def fail_in_every_way(proxy: RunningProxy, emulator: Emulator) -> list[str]:
    """Let logins fail for all the reasons in which a token takes part."""
    said = []
    for fault in (
        *("access-denied", "skew:600", "expired-credentials", "waking-up:60s"),
        *("fatal:57P01", "slow-login:30s"),
    ):
        emulator.add_fault(fault)
        with pytest.raises(psycopg.OperationalError) as caught:
            await psycopg.AsyncConnection.connect(proxy.dsn())
        said.append(str(caught.value))
        emulator.clear_faults()
    return said


async def test_no_log_of_any_library_holds_a_secret(
    proxy: RunningProxy,
    emulator: Emulator,
    tokens: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)  # for the root: botocore, asyncio, all of them
    async with RawClient.connect(proxy) as client:
        await client.send(startup())
        greeting = await client.receive_greeting()
        cancel = greeting.cancel_request
        for request in (cancel, CancelRequest(cancel.process_id, b"guess")):
            async with RawClient.connect(proxy) as canceller:
                await canceller.send(request.encode())
                await canceller.receive_end()
        assert await client.ask("select 1") == ["1"]
        emulator.expire_sessions()
    said = await fail_in_every_way(proxy, emulator)
    await all_ended(proxy, emulator)
    await until(lambda: proxy.log.getvalue().count("login failed") == len(said))
    records = [
        f"{record.getMessage()} {record.__dict__} {record.exc_info}"
        for record in caplog.records
    ]
    assert len(records) > 20
    forbidden = secrets_of(emulator, tokens)
    forbidden += [cancel.secret_key.hex(), repr(cancel.secret_key), "X-Amz-"]
    for text in (proxy.log.getvalue(), *records, *said):
        for secret in forbidden:
            assert secret not in text


async def test_no_object_shows_a_secret(
    proxy: RunningProxy, emulator: Emulator, tokens: list[str]
) -> None:
    async with RawClient.session(proxy) as client:
        await client.send(query("select 1"))
        shown = list(reprs())
        assert any("Services(" in text for text in shown)
        forbidden = secrets_of(emulator, tokens)
        for text in shown:
            for secret in forbidden:
                assert secret not in text


async def test_no_exception_holds_a_secret(
    proxy: RunningProxy,
    emulator: Emulator,
    tokens: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str] = []
    remember = type(proxy.proxy._services["main"].connector).open

    async def spying_open(self: object, asked: object) -> object:
        try:
            return await remember(self, asked)  # type: ignore[arg-type]
        except Exception as error:
            texts = traceback.TracebackException.from_exception(
                error, capture_locals=True
            ).format()
            seen.extend((str(error), repr(error), repr(error.args), *texts))
            raise

    connector = type(proxy.proxy._services["main"].connector)
    monkeypatch.setattr(connector, "open", spying_open)
    await fail_in_every_way(proxy, emulator)
    assert len(seen) > 6 * 3
    for text in seen:
        for secret in secrets_of(emulator, tokens):
            assert secret not in text
