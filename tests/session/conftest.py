"""One PostgreSQL for each module that carries sessions from upstream to upstream."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.servers import a_postgres

_TABLES = (
    "create schema s1",
    'create schema "s""2"',
    "create table s1.only_here (n int)",
    "insert into s1.only_here values (11)",
    "create table s1.twice (n int)",
    'create table "s""2".twice (n text)',
    'create schema "ünï"',
    "create role plain login",
    "create database limited",
)


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """Where a PostgreSQL of our own has its socket."""
    if sys.platform != "linux":
        pytest.skip("the embedded PostgreSQL is tried on Linux only")
    with a_postgres(*_TABLES) as server:
        yield server.directory
