"""The emulator with the SQL rules: what of them shows at login and in the pumps."""

from typing import Any

import pytest

from dsqlproxy.emulator.backend import BackendAddress
from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.errors import DsqlProxyError
from tests.emulator.kit import Client, sign, started


async def test_the_version_shown_is_the_cluster_s(postgres: EmbeddedPostgres) -> None:
    async with (
        started(postgres, has_rules=True) as emulator,
        Client.session(emulator) as client,
    ):
        assert client.settings["server_version"] == "16.15"
        assert await client.query("show server_version") == ["16.15"]
        assert await client.query("show transaction_isolation") == ["repeatable read"]


@pytest.mark.parametrize(
    ("parameters", "refused"),
    [
        ({"default_transaction_read_only": "on"}, "default_transaction_read_only"),
        ({"options": "-c statement_timeout=5"}, "statement_timeout"),
    ],
)
async def test_a_startup_parameter_is_refused_as_observed(
    postgres: EmbeddedPostgres, parameters: dict[str, Any], refused: str
) -> None:
    async with (
        started(postgres, has_rules=True) as emulator,
        Client.secured(emulator) as client,
    ):
        await client.start(**parameters)
        refusal = await client.refusal()
        assert refusal.sqlstate == "0A000"
        assert (
            refusal.message
            == f'setting configuration parameter "{refused}" not supported'
        )


async def test_an_accepted_parameter_passes(postgres: EmbeddedPostgres) -> None:
    async with (
        started(postgres, has_rules=True) as emulator,
        Client.session(
            emulator, application_name="tests", options="-c search_path=pg_catalog"
        ) as client,
    ):
        assert client.settings["application_name"] == "tests"
        assert await client.query("show search_path") == ["pg_catalog"]


@pytest.mark.parametrize("database", ["template1", ""])
async def test_there_is_one_database(postgres: EmbeddedPostgres, database: str) -> None:
    async with (
        started(postgres, has_rules=True) as emulator,
        Client.secured(emulator) as client,
    ):
        await client.start(database=database)
        refusal = await client.refusal()
        assert refusal.sqlstate == "3D000"
        assert refusal.message == f'database "{database or "admin"}" does not exist'


async def test_a_role_needs_an_iam_grant(postgres: EmbeddedPostgres) -> None:
    async with started(postgres, has_rules=True) as emulator:
        async with Client.secured(emulator) as client:
            await client.start("reader")
            await client.wire.receive_frame()
            await client.send_password(sign(emulator, "reader"))
            refusal = await client.refusal()
            assert refusal.sqlstate == "08P01"
            assert refusal.message == 'IAM authentication failed for user "reader"'
        arn = emulator.principal_arn
        async with Client.session(emulator) as admin:
            await admin.query(f"AWS IAM GRANT reader TO '{arn}'")
        async with Client.session(emulator, "reader") as reader:
            assert await reader.query("select current_user") == ["reader"]
        async with Client.session(emulator) as admin:
            await admin.query(f"AWS IAM REVOKE reader FROM '{arn}'")


async def test_a_refused_statement_leaves_the_session_usable(
    postgres: EmbeddedPostgres,
) -> None:
    async with (
        started(postgres, has_rules=True) as emulator,
        Client.session(emulator) as client,
    ):
        with pytest.raises(AssertionError, match="unsupported statement: Truncate"):
            await client.query("truncate pg_class")
        await client.receive_until_ready()
        assert await client.query("select 1") == ["1"]


@pytest.mark.parametrize("length", [3, 10 * 1024 * 1024 + 1])
async def test_an_impossible_or_overlong_message_ends_the_session_without_a_word(
    postgres: EmbeddedPostgres, length: int
) -> None:
    async with (
        started(postgres, has_rules=True) as emulator,
        Client.session(emulator) as client,
    ):
        await client.wire.send(b"Q" + length.to_bytes(4))
        await client.wire.receive_end()


async def test_a_fault_reaches_the_rules(postgres: EmbeddedPostgres) -> None:
    async with (
        started(postgres, has_rules=True) as emulator,
        Client.session(emulator) as client,
    ):
        ask = "select set_config('application_name', 'x', false)"
        assert await client.query(ask) == ["x"]
        emulator.add_fault("refuse-set-config")
        with pytest.raises(AssertionError, match="set_config"):
            await client.query(ask)


async def test_rules_need_a_superuser_behind_them(postgres: EmbeddedPostgres) -> None:
    await postgres.execute("create role weak login")
    address = BackendAddress(unix_path=postgres.address.unix_path, user="weak")
    with pytest.raises(DsqlProxyError, match="cannot be prepared") as refused:
        await started(address, has_rules=True).__aenter__()
    assert "--rules off" in refused.value.hint
