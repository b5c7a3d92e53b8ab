from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.kit.ruled import (
    FRESH,
    RawClient,
    RuledServer,
    ruled_postgres,
    run_directly,
    serve_rules,
)


@pytest.fixture(scope="session")
def database() -> Iterator[Path]:
    """One PostgreSQL for all tests of this folder: the path of its socket."""
    with ruled_postgres() as path:
        yield path


@pytest.fixture
async def server(database: Path) -> AsyncIterator[RuledServer]:
    """The rules, with an empty table ``t (a int)`` behind them."""
    await run_directly(database, FRESH, user="postgres")
    async with serve_rules(database) as ruled:
        yield ruled


@pytest.fixture
async def client(server: RuledServer) -> AsyncIterator[RawClient]:
    async with server.raw() as connected:
        yield connected
