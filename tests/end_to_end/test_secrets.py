"""Tokens, keys and signatures: in no log, no repr, no error, at any level."""

import gc
import logging
import traceback
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
import pytest_asyncio

from dsqlproxy.aws.credentials import Credentials, Identity, StaticCredentials
from dsqlproxy.aws.secret import Secret
from dsqlproxy.aws.tokens import SigningRequest, Token
from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.server import Emulator
from dsqlproxy.errors import DsqlProxyError
from dsqlproxy.ops.log import configure_logging
from dsqlproxy.pgproto.messages import PasswordMessage
from dsqlproxy.pgproto.startup import CancelRequest
from tests.end_to_end.talkative import tokens
from tests.end_to_end.wire import RawClient, all_ended, query, startup, until
from tests.kit.leaks import Forbidden
from tests.kit.stack import RunningProxy, running_emulator, running_proxy

__all__ = ("tokens",)  # a fixture that is borrowed


@pytest_asyncio.fixture
async def emulator(postgres: EmbeddedPostgres) -> AsyncIterator[Emulator]:
    async with running_emulator(postgres, with_session_token=True) as running:
        yield running


@pytest_asyncio.fixture
async def proxy(emulator: Emulator) -> AsyncIterator[RunningProxy]:
    async with running_proxy(
        emulator, connect_timeout="1s", hold_timeout="200ms"
    ) as running:
        yield running


def secrets_of(emulator: Emulator, tokens: list[str]) -> Forbidden:
    """Give all that must not be seen, in whole or in part."""
    assert tokens
    key = emulator.credentials
    assert key.session_token
    forbidden = Forbidden()
    forbidden.add("secret key", key.secret_access_key)
    forbidden.add("session token", key.session_token)
    for number, token in enumerate(tokens):
        forbidden.add_token(f"token {number}", token)
    return forbidden


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
    everything = "\n".join((proxy.log.getvalue(), *records, *said))
    assert secrets_of(emulator, tokens).found_in(everything) == set()
    for secret in (cancel.secret_key.hex(), repr(cancel.secret_key), "X-Amz-"):
        assert secret not in everything


async def test_no_object_shows_a_secret(
    proxy: RunningProxy, emulator: Emulator, tokens: list[str]
) -> None:
    async with RawClient.session(proxy) as client:
        await client.send(query("select 1"))
        shown = list(reprs())
        assert any("Services(" in text for text in shown)
        forbidden = secrets_of(emulator, tokens)
        assert forbidden.found_in("\n".join(shown)) == set()


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
    assert secrets_of(emulator, tokens).found_in("\n".join(seen)) == set()


# -- bugs ----------------------------------------------------------------------------


async def test_a_bug_where_the_token_is_at_hand_is_logged_without_it(
    proxy: RunningProxy,
    emulator: Emulator,
    tokens: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await (await psycopg.AsyncConnection.connect(proxy.dsn())).close()

    def fail(self: PasswordMessage) -> bytes:
        tokens.append(self.password)
        raise ZeroDivisionError(f"a bug at {self!r}")

    monkeypatch.setattr(PasswordMessage, "encode", fail)
    with pytest.raises(psycopg.OperationalError) as caught:
        await psycopg.AsyncConnection.connect(proxy.dsn())
    monkeypatch.undo()
    await all_ended(proxy, emulator)
    log = proxy.log.getvalue()
    assert "ZeroDivisionError: a bug at PasswordMessage()" in log
    assert "a bug" not in str(caught.value)
    everything = "\n".join((log, str(caught.value), caplog.text))
    assert len(tokens) == 2
    assert secrets_of(emulator, tokens).found_in(everything) == set()


def classes_below(root: type[DsqlProxyError]) -> Iterator[type[DsqlProxyError]]:
    yield root
    for child in root.__subclasses__():
        yield from classes_below(child)


SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
HOLDERS: list[object] = [
    Secret(SECRET),
    Token(SECRET, role="admin", lifetime_seconds=60),
    Credentials("AKIAEXAMPLE", Secret(SECRET), Secret(SECRET)),
    StaticCredentials("AKIAEXAMPLE", Secret(SECRET), Secret(SECRET)),
    Identity(given=StaticCredentials("AKIAEXAMPLE", Secret(SECRET))),
    PasswordMessage(SECRET),
]


@pytest.mark.parametrize("holder", HOLDERS, ids=lambda holder: type(holder).__name__)
def test_no_exception_of_ours_shows_a_secret_that_is_in_it(holder: object) -> None:
    forbidden = Forbidden()
    forbidden.add("it", SECRET)
    kinds = list(classes_below(DsqlProxyError))
    assert len(kinds) > 10
    for kind in kinds:
        error = kind.__new__(kind, holder, [holder], {"key": holder})
        error.message = f"{holder} {holder!r} {[holder]}"
        error.detail, error.hint = str(holder), f"{holder!s:>9}"
        shown = [str(error), repr(error), repr(error.args)]
        try:
            raise error
        except DsqlProxyError as raised:
            trace = traceback.TracebackException.from_exception(
                raised, capture_locals=True
            )
            shown += trace.format()
            shown.append("".join(traceback.format_exception(raised)))
        assert forbidden.found_in("\n".join(shown)) == set(), kind


# -- that these tests can fail -------------------------------------------------------


async def test_a_log_that_holds_a_secret_is_found(
    proxy: RunningProxy, emulator: Emulator, tokens: list[str]
) -> None:
    await (await psycopg.AsyncConnection.connect(proxy.dsn())).close()
    key = emulator.credentials
    leaks: dict[str, dict[str, object]] = {
        "secret key": {"keys": [key.secret_access_key]},
        "session token": {"session_token": key.session_token},
        "signature of token 0": {"url": tokens[0].partition("&X-Amz-Signature=")[2]},
    }
    forbidden = secrets_of(emulator, tokens)
    log = configure_logging(level="debug", log_format="json", stream=proxy.log)
    assert forbidden.found_in(proxy.log.getvalue()) == set()
    with log as planted:
        for fields in leaks.values():
            planted.debug("planted", **fields)
    assert forbidden.found_in(proxy.log.getvalue()) >= leaks.keys()


async def test_an_object_that_shows_a_secret_is_found(
    proxy: RunningProxy, emulator: Emulator, tokens: list[str]
) -> None:
    await (await psycopg.AsyncConnection.connect(proxy.dsn())).close()
    planted = SigningRequest(tokens[0], "us-east-1", "admin", 60)
    found = secrets_of(emulator, tokens).found_in("\n".join(reprs()))
    assert "signature of token 0" in found, planted
