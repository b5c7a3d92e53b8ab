"""A PostgreSQL for several tests; fixtures of any scope wrap it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dsqlproxy.emulator.postgres import EmbeddedPostgres


@contextmanager
def a_postgres(
    *cluster_sql: str, bin_dir: Path | None = None
) -> Iterator[EmbeddedPostgres]:
    """Run an embedded PostgreSQL outside the loops of the tests.

    An async fixture would be made anew for each test: it depends on the loop's.
    """
    with asyncio.Runner() as runner:
        starting = EmbeddedPostgres.start(bin_dir=bin_dir, cluster_sql=cluster_sql)
        server = runner.run(starting.__aenter__())
        try:
            yield server
        finally:
            runner.run(starting.__aexit__(None, None, None))
