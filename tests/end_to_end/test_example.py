"""The example configuration, adapted to a running emulator, as a user would do it."""

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsqlproxy.emulator.postgres import locate
from tests.kit import clients
from tests.kit.processes import program

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"


def _adapted(text: str, **keys: object) -> str:
    for key, value in keys.items():
        text, count = re.subn(rf"(?m)^(    {key}:) .*$", rf"\1 {value}", text)
        assert count == 1, key
    return text


@pytest.fixture
def reachable_path() -> Iterator[Path]:
    """A directory that the embedded PostgreSQL can reach as another user."""
    with tempfile.TemporaryDirectory(prefix="dsqlproxy-test-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


async def test_the_example_leads_to_a_working_psql(
    reachable_path: Path, tmp_path: Path
) -> None:
    async with program("emulator", directory=reachable_path) as cluster:
        config = tmp_path / "proxy.yaml"
        text = _adapted(
            EXAMPLE.read_text(),
            cluster=cluster.ready["cluster"],
            connect_address="{host}:{port}".format(**cluster.ready),
            ca_file=cluster.ready["ca_file"],
            max_sessions=1,
        )
        config.write_text(text)
        variables = {
            "AWS_ACCESS_KEY_ID": cluster.ready["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": cluster.ready["secret_access_key"],
            # The file says 5432 and 9090, of which the flag wins and the variable.
            "DSQLPROXY_LISTENER_LISTEN": "127.0.0.1:1",
            "DSQLPROXY_ADMIN_LISTEN": "127.0.0.1:0",
            "DSQLPROXY_LISTENER_MAX_SESSIONS": "2",
        }
        async with program(
            *("--config", str(config), "--listen", "127.0.0.1:0"),
            directory=tmp_path,
            environ=variables,
        ) as proxy:
            assert proxy.port not in {1, 5432}
            assert not proxy.admin.endswith(":9090")
            where = {"PGHOST": proxy.host, "PGPORT": str(proxy.port)}
            who = {"PGUSER": "admin", "PGDATABASE": "postgres"}
            psql = clients.Program.at(locate(os.environ) / "psql", {**where, **who})
            _use(psql)


def _use(psql: clients.Program) -> None:
    assert psql.run("-Xqc", "create table t (id int, t text)").code == 0
    assert psql.run("-Xc", "insert into t values (1, 'one')").out == "INSERT 0 1\n"
    assert "public | t    | table | admin" in psql.run("-Xc", r"\d").out
    # One more session within the first: two are allowed by the variable.
    nested = r"\! psql -XAtc 'table t'"
    path = f"{psql.path.parent}:{os.environ['PATH']}"
    done = psql.run("-XAt", "-c", "select 42", "-c", nested, PATH=path)
    assert done.lines == ["42", "1|one"]
