"""One PostgreSQL for each module of tests of the kit that asks for it."""

from collections.abc import Iterator

import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from tests.kit.servers import a_postgres


@pytest.fixture(scope="module")
def postgres() -> Iterator[EmbeddedPostgres]:
    with a_postgres() as server:
        yield server
