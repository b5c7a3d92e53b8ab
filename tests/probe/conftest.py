import asyncio
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.probe import ProbeReport
from tests.emulator.kit import started
from tests.kit.servers import a_postgres
from tests.probe.kit import Signer, probe, secrets_of
from tests.upstream.wire import Authority


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    with a_postgres("create role reader login") as server:
        yield server


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


class Ran(NamedTuple):
    """A probe of an emulator that has ended."""

    report: ProbeReport
    secrets: list[str]
    logins: int


@pytest.fixture(scope="session")
def ran(postgres: EmbeddedPostgres) -> Ran:
    """Ask an emulator everything, once for all tests that only read the report."""

    async def run() -> Ran:
        async with started(
            postgres, has_rules=True, with_session_token=True
        ) as emulator:
            signer = Signer(emulator)
            report = await probe(emulator, signer=signer)
            secrets = list(secrets_of(emulator, signer.tokens))
            counts = emulator.counts
            logins = counts.logins_accepted + counts.logins_refused.total()
            return Ran(report, secrets, logins)

    return asyncio.run(run())
