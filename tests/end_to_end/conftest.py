"""Fixtures: one PostgreSQL for the run, an emulator and a proxy for each test."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.server import Emulator
from tests.kit.servers import a_postgres
from tests.kit.stack import RunningProxy, running_emulator, running_proxy


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    with a_postgres() as server:
        yield server


@pytest.fixture(params=[True, False], ids=["rules", "no-rules"])
def has_rules(request: pytest.FixtureRequest) -> bool:
    """Run a test with DSQL's SQL rules and without."""
    return bool(request.param)


@pytest_asyncio.fixture
async def emulator(postgres: EmbeddedPostgres) -> AsyncIterator[Emulator]:
    """Run a cluster with DSQL's rules."""
    async with running_emulator(postgres) as running:
        yield running


@pytest_asyncio.fixture
async def proxy(emulator: Emulator) -> AsyncIterator[RunningProxy]:
    """Run a proxy with every setting at its default."""
    async with running_proxy(emulator) as running:
        yield running
