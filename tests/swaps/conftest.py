"""One PostgreSQL for all tests of this folder."""

import asyncio
from collections.abc import Iterator

import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """Run an embedded PostgreSQL outside the loops of the tests."""
    with asyncio.Runner() as runner:
        server = EmbeddedPostgres.start()
        yield runner.run(server.__aenter__())
        runner.run(server.__aexit__(None, None, None))
