"""Keys from the stand-ins open sessions at an emulated cluster that is told of them."""

import asyncio

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.server import Emulator
from tests.emulator.kit import Client, started
from tests.kit.aws_stand_ins import Home, StandIns
from tests.kit.aws_stand_ins.fetching import Fetch, Found
from tests.kit.botocore_sessions import new_session


def sign(emulator: Emulator, found: Found) -> str:
    session = new_session()
    session.set_credentials(*found)
    client = session.create_client("dsql", region_name=emulator.region)
    return str(client.generate_db_connect_admin_auth_token(emulator.cluster, None, 60))


async def test_what_sso_gives_opens_a_session(
    aws: StandIns, home: Home, fetch: Fetch, postgres: EmbeddedPostgres
) -> None:
    home.sso_profile("dev")
    home.sign_in(aws.sso.sign_in())
    async with started(postgres) as emulator:
        aws.mint.on_key = emulator.trust
        found = await asyncio.to_thread(fetch, AWS_PROFILE="dev")
        async with Client.secured(emulator) as client:
            await client.log_in(token=sign(emulator, found))
        emulator.distrust(aws.mint.last.access_key_id)
        async with Client.secured(emulator) as client:
            await client.start()
            await client.wire.receive_frame()
            await client.send_password(sign(emulator, found))
            assert "security token" in (await client.refusal()).hint
