"""One PostgreSQL for all tests of this folder."""

from collections.abc import Iterator

import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from tests.kit.servers import a_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    with a_postgres() as server:
        yield server
