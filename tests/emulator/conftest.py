import logging
from collections.abc import Iterator

import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from tests.kit.servers import a_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """One PostgreSQL for all tests of this folder; starting one takes half a second."""
    with a_postgres("create role reader login") as server:
        yield server


@pytest.fixture(autouse=True)
def no_bug_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail a test in which a session of the emulator failed by a bug of its own."""
    yield
    bugs = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert not bugs, caplog.text
