from pathlib import Path

import pytest

from dsqlproxy.emulator.backend import (
    BackendAddress,
    BackendRefused,
    execute,
    open_backend,
    run_sql,
    send_cancel,
)
from dsqlproxy.emulator.postgres import SUPERUSER, EmbeddedPostgres
from dsqlproxy.errors import ConnectionLost
from dsqlproxy.pgproto.codes import AuthenticationCode, FrontendType, TransactionStatus
from dsqlproxy.pgproto.messages import (
    AUTHENTICATION_OK,
    Authentication,
    ErrorResponse,
    PasswordMessage,
    ReadyForQuery,
)
from dsqlproxy.pgproto.startup import PROTOCOL_3_0, CancelRequest, StartupMessage
from tests.kit.scripted import Conversation, Script, scripted_server

STARTUP = StartupMessage(PROTOCOL_3_0, (("user", "u"), ("database", "postgres")))
READY = ReadyForQuery(TransactionStatus.IDLE).encode()


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "address"),
        [
            (
                "postgresql://u:p%40ss@db.example:6000/name",
                BackendAddress("db.example", 6000, None, "u", "p@ss", "name"),
            ),
            ("postgres://[::1]", BackendAddress("::1", 5432)),
            (
                "postgresql:///name?host=/run/pg",
                BackendAddress(
                    "/run/pg", 5432, Path("/run/pg/.s.PGSQL.5432"), database="name"
                ),
            ),
            (
                "postgresql://u@/name?host=/run/pg",
                BackendAddress(
                    "/run/pg", 5432, Path("/run/pg/.s.PGSQL.5432"), "u", None, "name"
                ),
            ),
            (
                "postgresql://%2Frun%2Fpg:6001",
                BackendAddress("/run/pg", 6001, Path("/run/pg/.s.PGSQL.6001")),
            ),
        ],
    )
    def test_a_url_is_read_as_by_libpq(self, url: str, address: BackendAddress) -> None:
        assert BackendAddress.parse(url) == address

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "db.example",
            "http://db.example",
            "postgresql://db:port",
            "postgresql://db:99999",
            "postgresql://db/x?sslmode=require",
            "postgresql://db/x?host",
            "postgresql://db/x#y",
        ],
    )
    def test_another_text_is_refused_without_being_quoted(self, url: str) -> None:
        with pytest.raises(ValueError, match="accepted: postgresql://") as refused:
            BackendAddress.parse(url)
        assert not url or url not in str(refused.value)

    def test_a_password_is_in_no_repr(self) -> None:
        assert "hunter2" not in repr(BackendAddress.parse("postgres://u:hunter2@h"))


class TestLogins:
    async def refusal(self, script: Script) -> Exception:
        """Give what the login fails with."""
        async with scripted_server(script) as server:
            address = BackendAddress(server.host, server.port)
            with pytest.raises((BackendRefused, ConnectionLost, OSError)) as refused:
                await open_backend(address, STARTUP)
        return refused.value

    async def test_a_cleartext_password_is_answered(self) -> None:
        async def script(peer: Conversation) -> None:
            assert await peer.receive_packet() == STARTUP
            await peer.send(
                Authentication(AuthenticationCode.CLEARTEXT_PASSWORD).encode()
            )
            kind, body = await peer.receive_frame()
            assert kind == FrontendType.PASSWORD
            assert PasswordMessage.decode(body).password == "pw"
            await peer.send(AUTHENTICATION_OK.encode(), READY)
            await peer.receive_end()

        async with scripted_server(script) as server:
            address = BackendAddress(server.host, server.port, password="pw")
            backend = await open_backend(address, STARTUP)
            backend.channel.abort()
            await backend.channel.wait_closed()

    @pytest.mark.parametrize(
        "request_",
        [
            pytest.param(Authentication(5, b"salt"), id="md5"),
            pytest.param(Authentication(10, b"SCRAM-SHA-256-PLUS\0\0"), id="only PLUS"),
            pytest.param(Authentication(11, b""), id="continued, never begun"),
            pytest.param(Authentication(99), id="unknown"),
        ],
    )
    async def test_another_authentication_is_refused(
        self, request_: Authentication
    ) -> None:
        async def script(peer: Conversation) -> None:
            await peer.receive_packet()
            await peer.send(request_.encode())
            await peer.receive_end()

        refusal = await self.refusal(script)
        assert "authentication it does not speak" in str(refusal)

    async def test_a_server_that_leaves_is_an_error(self) -> None:
        async def script(peer: Conversation) -> None:
            await peer.receive_packet()

        assert isinstance(await self.refusal(script), ConnectionLost | OSError)

    async def test_a_refusal_is_kept_as_it_came(self) -> None:
        refusal = ErrorResponse(
            (("S", "FATAL"), ("C", "28P01"), ("M", "no"), ("R", "f"))
        )

        async def script(peer: Conversation) -> None:
            await peer.receive_packet()
            await peer.send(refusal.encode())
            await peer.receive_end()

        refused = await self.refusal(script)
        assert isinstance(refused, BackendRefused)
        assert refused.response == refusal

    async def test_a_session_without_a_key_has_none(self) -> None:
        async def script(peer: Conversation) -> None:
            await peer.receive_packet()
            await peer.send(AUTHENTICATION_OK.encode(), READY)
            await peer.receive_end()

        async with scripted_server(script) as server:
            backend = await open_backend(
                BackendAddress(server.host, server.port), STARTUP
            )
            assert backend.key is None
            backend.channel.abort()
            await backend.channel.wait_closed()


async def test_scram_satisfies_postgresql_and_is_satisfied(
    postgres: EmbeddedPostgres,
) -> None:
    await postgres.execute(
        "set password_encryption = 'scram-sha-256'",
        "create role scram_role login password 'pencil'",
    )
    hba = postgres.directory / "data" / "pg_hba.conf"
    trusting = hba.read_text()
    hba.write_text(f"local all scram_role scram-sha-256\n{trusting}")
    await postgres.execute("select pg_reload_conf()", "select pg_sleep(0.1)")
    try:
        good = BackendAddress(
            unix_path=postgres.address.unix_path, user="scram_role", password="pencil"
        )
        await execute(good, "select 1")
        bad = BackendAddress(
            unix_path=postgres.address.unix_path, user="scram_role", password="crayon"
        )
        with pytest.raises(BackendRefused, match="password authentication failed"):
            await execute(bad, "select 1")
    finally:
        hba.write_text(trusting)
        await postgres.execute("select pg_reload_conf()")


async def test_sql_tells_whether_there_was_a_row(postgres: EmbeddedPostgres) -> None:
    startup = StartupMessage(PROTOCOL_3_0, (("user", SUPERUSER),))
    backend = await open_backend(postgres.address, startup)
    assert await run_sql(backend, "select 1")
    assert not await run_sql(backend, "select 1 where false")
    with pytest.raises(BackendRefused, match="does not exist"):
        await run_sql(backend, "select * from nothing")
    assert await run_sql(backend, "select 1")
    backend.channel.abort()
    await backend.channel.wait_closed()


async def test_a_cancel_request_is_passed_on_as_it_is() -> None:
    request = CancelRequest(7, b"k" * 32)

    async def script(peer: Conversation) -> None:
        assert await peer.receive_packet() == request

    async with scripted_server(script) as server:
        await send_cancel(BackendAddress(server.host, server.port), request)
