"""Further keys of a running emulator: those that are given, renewed, taken away."""

from dataclasses import replace

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.server import Emulator
from dsqlproxy.emulator.sigv4 import AccessKey
from tests.emulator.kit import Client, sign, started
from tests.kit.botocore_sessions import new_session

ARN = "arn:aws:iam::111122223333:role/app"
KEY = AccessKey("ASIAIOSFODNN7EXAMPLE", "a-secret", ARN, "a-session-token")


def sign_with(key: AccessKey, emulator: Emulator) -> str:
    session = new_session()
    session.set_credentials(key.access_key_id, key.secret_access_key, key.session_token)
    client = session.create_client("dsql", region_name=emulator.region)
    return str(client.generate_db_connect_admin_auth_token(emulator.cluster, None, 60))


async def refused_hint(emulator: Emulator, key: AccessKey) -> str:
    async with Client.secured(emulator) as client:
        await client.start()
        await client.wire.receive_frame()
        await client.send_password(sign_with(key, emulator))
        return (await client.refusal()).hint


async def test_a_key_opens_sessions_from_when_it_is_trusted(
    postgres: EmbeddedPostgres,
) -> None:
    async with started(postgres) as emulator:
        assert "security token" in await refused_hint(emulator, KEY)
        emulator.trust(KEY)
        async with Client.secured(emulator) as client:
            await client.log_in(token=sign_with(KEY, emulator))
            assert await client.query("select current_user") == ["admin"]


async def test_a_key_that_is_distrusted_opens_no_more_but_its_session_stays(
    postgres: EmbeddedPostgres,
) -> None:
    async with started(postgres) as emulator, Client.session(emulator) as client:
        emulator.distrust(emulator.credentials.access_key_id)
        assert "security token" in await refused_hint(emulator, emulator.credentials)
        assert await client.query("select 1") == ["1"]


async def test_a_key_is_renewed_by_trusting_it_again(
    postgres: EmbeddedPostgres,
) -> None:
    renewed = replace(KEY, secret_access_key="another")
    async with started(postgres) as emulator:
        emulator.trust(KEY)
        emulator.trust(renewed)
        assert "does not match" in await refused_hint(emulator, KEY)
        async with Client.secured(emulator) as client:
            await client.log_in(token=sign_with(renewed, emulator))


async def test_to_distrust_an_unknown_key_changes_nothing(
    postgres: EmbeddedPostgres,
) -> None:
    async with started(postgres) as emulator:
        emulator.distrust(KEY.access_key_id)
        async with Client.secured(emulator) as client:
            await client.log_in(token=sign(emulator))
