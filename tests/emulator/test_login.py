import logging
from pathlib import Path

import pytest

from dsqlproxy.emulator.backend import BackendAddress
from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.server import wall_clock
from dsqlproxy.pgproto.codes import BackendType
from dsqlproxy.pgproto.messages import NegotiateProtocolVersion
from dsqlproxy.pgproto.startup import (
    PROTOCOL_3_0,
    PROTOCOL_3_2,
)
from tests.emulator.kit import Client, sign, started


class TestTheClustersName:
    async def test_sni_is_mandatory(self, postgres: EmbeddedPostgres) -> None:
        async with (
            started(postgres) as emulator,
            Client.secured(emulator, server_name="127.0.0.1") as client,
        ):
            await client.start()
            refusal = await client.refusal()
            assert (
                refusal.message == "unable to accept connection, sni was not received"
            )

    @pytest.mark.parametrize("name", ["localhost", "other"])
    async def test_another_cluster_s_name_is_refused(
        self, postgres: EmbeddedPostgres, name: str
    ) -> None:
        async with started(postgres) as emulator:
            other = "a" * 26 + emulator.cluster[26:] if name == "other" else name
            async with Client.secured(emulator, server_name=other) as client:
                await client.start()
                assert "access denied" in (await client.refusal()).message

    async def test_the_private_link_name_is_a_name_of_the_cluster(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with started(postgres) as emulator:
            name = emulator.private_link_name
            async with Client.secured(emulator, server_name=name) as client:
                await client.log_in(token=sign(emulator, host=name))

    @pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
    async def test_private_link_without_dns_names_the_cluster_by_an_option(
        self, postgres: EmbeddedPostgres, name: str
    ) -> None:
        async with started(postgres) as emulator:
            option = f"-c geqo=off -c amzn-cluster-id={emulator.cluster_id}"
            async with Client.secured(emulator, server_name=name) as client:
                await client.log_in(options=option)
                assert await client.query("show geqo") == ["off"]

    async def test_the_option_of_another_cluster_is_refused(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with started(postgres) as emulator, Client.secured(emulator) as client:
            await client.start(options=f"-c amzn-cluster-id={'a' * 26}")
            assert "access denied" in (await client.refusal()).message


class TestTheToken:
    async def refused_hint(self, client: Client, user: str, token: str) -> str:
        await client.start(user)
        await client.wire.receive_frame()
        await client.send_password(token)
        refusal = await client.refusal()
        assert refusal.message == "unable to accept connection, access denied"
        assert refusal.sqlstate == "08006"
        return refusal.hint

    async def test_a_wrong_action_is_denied_as_on_a_cluster(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with started(postgres) as emulator, Client.secured(emulator) as client:
            hint = await self.refused_hint(client, "admin", sign(emulator, "reader"))
            assert hint == (
                "Wrong user to action mapping. user: admin, action: DbConnect"
            )

    async def test_an_expired_token_is_denied(self, postgres: EmbeddedPostgres) -> None:
        async with (
            started(postgres, clock=lambda: wall_clock() + 100) as emulator,
            Client.secured(emulator) as client,
        ):
            token = sign(emulator, expires=60)
            hint = await self.refused_hint(client, "admin", token)
            assert hint.startswith("Signature expired: ")

    async def test_a_week_and_a_second_is_denied(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with started(postgres) as emulator, Client.secured(emulator) as client:
            token = sign(emulator, expires=604_801)
            hint = await self.refused_hint(client, "admin", token)
            assert "X-Amz-Expires must be less than a week (in seconds)" in hint

    async def test_a_plain_password_is_denied(self, postgres: EmbeddedPostgres) -> None:
        async with started(postgres) as emulator, Client.secured(emulator) as client:
            assert await self.refused_hint(client, "admin", "hunter2")

    async def test_a_session_outlives_its_token(
        self, postgres: EmbeddedPostgres
    ) -> None:
        late = 0.0
        async with (
            started(postgres, clock=lambda: wall_clock() + late) as emulator,
            Client.session(emulator) as client,
        ):
            late = 10_000.0
            assert await client.query("select 1") == ["1"]

    async def test_the_token_and_the_secret_are_in_no_log(
        self, postgres: EmbeddedPostgres, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        async with started(postgres) as emulator:
            async with Client.session(emulator):
                pass
            async with Client.secured(emulator) as client:
                await self.refused_hint(client, "admin", sign(emulator, "reader"))
        assert "login refused" in caplog.text
        assert "X-Amz-Signature" not in caplog.text
        assert emulator.credentials.secret_access_key not in caplog.text

    @pytest.mark.parametrize(
        ("packet", "message"),
        [
            pytest.param(
                b"p\0\0\0\x0aab\0cd\0", "invalid password packet size", id="mangled"
            ),
            pytest.param(
                b"p\x7f\0\0\0", "invalid password packet size", id="too large"
            ),
            pytest.param(
                b"Q\0\0\0\x05\0", "expected password response", id="no password"
            ),
        ],
    )
    async def test_a_broken_password_packet_is_refused(
        self, postgres: EmbeddedPostgres, packet: bytes, message: str
    ) -> None:
        async with started(postgres) as emulator, Client.secured(emulator) as client:
            await client.start()
            await client.wire.receive_frame()
            await client.wire.send(packet)
            refusal = await client.refusal()
            assert (refusal.sqlstate, refusal.message) == ("08P01", message)


class TestTheRole:
    async def test_another_role_connects_with_its_action(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with (
            started(postgres) as emulator,
            Client.session(emulator, "reader") as client,
        ):
            assert await client.query("select current_user") == ["reader"]

    @pytest.mark.parametrize("role", ["nonexistent_user", "postgres"])
    async def test_an_unknown_role_is_refused(
        self, postgres: EmbeddedPostgres, role: str
    ) -> None:
        async with started(postgres) as emulator, Client.secured(emulator) as client:
            await client.start(role)
            await client.wire.receive_frame()
            await client.send_password(sign(emulator, role))
            refusal = await client.refusal()
            assert refusal.sqlstate == "08P01"
            assert refusal.message == f"Role {role} does not exist"

    async def test_a_role_without_login_is_refused(
        self, postgres: EmbeddedPostgres
    ) -> None:
        await postgres.execute("create role nologin_role")
        async with started(postgres) as emulator, Client.secured(emulator) as client:
            await client.start("nologin_role")
            await client.wire.receive_frame()
            await client.send_password(sign(emulator, "nologin_role"))
            refusal = await client.refusal()
            assert refusal.message == (
                'IAM authentication failed for user "nologin_role"'
            )

    async def test_no_user_is_refused(self, postgres: EmbeddedPostgres) -> None:
        async with started(postgres) as emulator, Client.secured(emulator) as client:
            await client.start("")
            assert (await client.refusal()).sqlstate == "28000"


class TestTheStartupPacket:
    async def test_without_rules_every_parameter_reaches_postgresql(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with (
            started(postgres) as emulator,
            Client.session(emulator, work_mem="77kB", options="-c geqo=off") as client,
        ):
            assert await client.query("show work_mem") == ["77kB"]
            assert await client.query("show geqo") == ["off"]
            assert await client.query("show transaction_isolation") == [
                "read committed"
            ]

    async def test_without_rules_the_database_is_the_one_asked_for(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with (
            started(postgres) as emulator,
            Client.session(emulator, database="template1") as client,
        ):
            assert await client.query("select current_database()") == ["template1"]

    async def test_without_rules_postgresql_itself_refuses(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with started(postgres) as emulator, Client.secured(emulator) as client:
            await client.start(database="nowhere")
            refusal = await client.refusal()
            assert refusal.sqlstate == "3D000"
            assert refusal.get("R")  # PostgreSQL's own fields, unchanged

    async def test_protocol_3_2_is_answered_with_3_0(
        self, postgres: EmbeddedPostgres
    ) -> None:
        async with started(postgres) as emulator, Client.secured(emulator) as client:
            await client.start(version=PROTOCOL_3_2, **{"_pq_.wonder": "1"})
            kind, body = await client.wire.receive_frame()
            assert kind == BackendType.NEGOTIATE_PROTOCOL_VERSION
            assert NegotiateProtocolVersion.decode(body) == NegotiateProtocolVersion(
                PROTOCOL_3_0, ("_pq_.wonder",)
            )
            await client.wire.receive_frame()
            await client.send_password(sign(emulator))
            await client.receive_greeting()
            assert await client.query("select 1") == ["1"]


async def test_a_backend_that_is_gone_is_a_refusal() -> None:
    nowhere = BackendAddress(unix_path=Path("/nonexistent/.s.PGSQL.5432"))
    async with started(nowhere) as emulator, Client.secured(emulator) as client:
        await client.start()
        assert (await client.refusal()).sqlstate == "08006"
