import asyncio
import os
import re
import tempfile

import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.server import EmulatorConfig
from tests.emulator.kit import Client, ask_control, sign, started


@pytest.mark.parametrize("direct", [True, False])
async def test_a_token_opens_a_session(
    postgres: EmbeddedPostgres, direct: bool
) -> None:
    async with (
        started(postgres) as emulator,
        Client.secured(emulator, direct=direct) as client,
    ):
        await client.log_in()
        assert await client.query("select current_user") == ["admin"]
        assert client.settings["is_superuser"] == "off"
        assert emulator.counts.logins_accepted == 1


async def test_temporary_credentials_open_a_session(postgres: EmbeddedPostgres) -> None:
    async with (
        started(postgres, with_session_token=True) as emulator,
        Client.session(emulator) as client,
    ):
        assert emulator.credentials.session_token
        assert await client.query("select 1") == ["1"]


async def test_leaving_the_emulator_ends_every_session_and_leaves_no_files(
    postgres: EmbeddedPostgres,
) -> None:
    async with started(postgres) as emulator:
        session = Client.session(emulator)
        client = await session.__aenter__()
        await client.send_query("select pg_sleep(60)")
        silent = Client.dial(emulator)
        await silent.__aenter__()
        directory = emulator.ca_file.parent
        assert directory.exists()
    assert not directory.exists()
    assert len(asyncio.all_tasks()) == 1
    await client.wire.receive_rest()
    await session.__aexit__(None, None, None)
    await silent.__aexit__(None, None, None)


async def test_an_address_in_use_is_an_error_and_leaves_no_files(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not tmp_path: a unix socket, for control, has a short name only.
    with tempfile.TemporaryDirectory() as directory:
        monkeypatch.setattr("tempfile.tempdir", directory)
        async with started(postgres) as emulator:
            with pytest.raises(OSError, match="in use"):
                await started(postgres, port=emulator.port).__aenter__()
            assert len(os.listdir(directory)) == 1


async def test_each_start_has_credentials_and_a_cluster_of_its_own(
    postgres: EmbeddedPostgres,
) -> None:
    async with started(postgres) as one, started(postgres) as other:
        assert re.fullmatch(r"[a-z0-9]{26}\.dsql\.us-east-1\.on\.aws", one.cluster)
        assert one.cluster != other.cluster
        assert one.credentials != other.credentials
        assert one.credentials.secret_access_key not in repr(one.credentials)
        token = sign(one)
        async with Client.secured(other) as client:
            await client.start()
            await client.wire.receive_frame()
            await client.send_password(token)
            assert "another host" in (await client.refusal()).hint


async def test_the_defaults_are_those_of_a_cluster() -> None:
    config = EmulatorConfig()
    assert config.session_limit == 3600
    assert config.max_connections == 10_000
    assert (config.connect_rate, config.connect_burst) == (100, 1000)


async def test_the_control_socket_tells_the_counts(postgres: EmbeddedPostgres) -> None:
    async with started(postgres) as emulator, Client.session(emulator):
        (answer,) = await ask_control(emulator, "status")
        assert answer.startswith('ok {"sessions": 1, "connections": 1, ')
