"""Frame by frame, a session through the proxy is a session with PostgreSQL."""

from collections.abc import Iterator

import psycopg
import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from tests.end_to_end import plays, plays_in_order
from tests.kit.clients import Served, serve
from tests.kit.transcript import Play, perform

PLAYS = (*plays.PLAYS, *plays_in_order.PLAYS)


@pytest.fixture(scope="module")
def served(postgres: EmbeddedPostgres) -> Iterator[Served]:
    with serve(postgres) as served:
        _execute(served, *plays.TABLES)
        yield served


@pytest.fixture(autouse=True)
def settled(served: Served) -> Iterator[None]:
    yield
    served.settle()


@pytest.mark.parametrize("play", PLAYS, ids=lambda play: play.name)
@pytest.mark.parametrize("chunk_bytes", [None, 1, 7], ids=["whole", "by 1", "by 7"])
async def test_the_same_is_answered_as_by_postgresql_itself(
    served: Served, play: Play, chunk_bytes: int | None
) -> None:
    socket = served.postgres.address.unix_path
    assert socket is not None
    _execute(served, *plays.ROWS)
    expected = await perform(play, socket)
    assert expected.letters == play.answers
    _execute(served, *plays.ROWS)
    proxied = await perform(play, (served.host, served.port), chunk_bytes=chunk_bytes)
    assert proxied.normalised == expected.normalised


def test_there_are_enough_plays_of_different_names() -> None:
    assert len({play.name for play in PLAYS}) == len(PLAYS) >= 50


def _execute(served: Served, *statements: str) -> None:
    superuser = f"host='{served.postgres.directory}' user=postgres dbname=postgres"
    with psycopg.connect(superuser, autocommit=True) as direct:
        for statement in statements:
            direct.execute(statement.encode())
