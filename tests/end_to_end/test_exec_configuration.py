"""`dsqlproxy exec`: what of file, flags and environment counts."""

import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from tests.end_to_end.executing import Exec, listener_of, program_of
from tests.kit.clients import (
    Served,
    serve,
)


@pytest.fixture(scope="module")
def served(postgres: EmbeddedPostgres) -> Iterator[Served]:
    """Serve; only the cluster of it is used, each command has a proxy of its own."""
    with serve(postgres) as served:
        yield served


@pytest.fixture
def dsqlproxy(served: Served, tmp_path: Path) -> Exec:
    file = tmp_path / "proxy.yaml"
    file.write_text(yaml.safe_dump({"listeners": [listener_of(served)]}))
    return Exec(program_of(served), ("--config", str(file)))


def test_one_of_several_listeners_is_chosen_and_its_address_left_alone(
    served: Served, tmp_path: Path
) -> None:
    file = tmp_path / "proxy.yaml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        first = listener_of(served, listen=f"127.0.0.1:{port}", name="one")
        second = listener_of(
            served, name="two", listen="127.0.0.1:1", client_tls="auto", role="admin"
        )
        config = {
            "listeners": [first, second],
            # Of the proxy that runs by itself; here it would be taken.
            "admin": {"listen": f"127.0.0.1:{port}"},
            "log": {"level": "debug"},
        }
        file.write_text(yaml.safe_dump(config))
        dsqlproxy = Exec(program_of(served), ("--config", str(file)))
        assert dsqlproxy.run("true").code == 2
        for name in ("one", "two"):
            done = dsqlproxy.with_flags("--listener", name).run(
                "sh", "-c", 'psql -XAtc "select $PGPORT"'
            )
            assert (done.code, done.err) == (0, "")
            assert int(done.out) not in {1, port}


def test_a_proxy_that_cannot_start_starts_no_command(
    dsqlproxy: Exec, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        asked = dsqlproxy.with_flags("--admin-listen", address)
        done = asked.run("touch", str(tmp_path / "begun"))
    assert done.code == 1
    assert f"the admin address {address} is taken" in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "begun").exists()


def test_a_bad_configuration_starts_no_command(served: Served, tmp_path: Path) -> None:
    dsqlproxy = Exec(program_of(served), ("--cluster", "nonsense"))
    done = dsqlproxy.run("touch", str(tmp_path / "begun"))
    assert (done.code, done.err.startswith("dsqlproxy: --cluster: ")) == (2, True)
    assert not (tmp_path / "begun").exists()


HOSTILE: Mapping[str, str] = {
    "PGSSLMODE": "require",
    "PGSSLROOTCERT": "system",
    "PGSSLNEGOTIATION": "direct",
    "PGHOSTADDR": "192.0.2.1",
    "PGSERVICE": "nowhere",
    "PGREQUIREAUTH": "scram-sha-256",
    "PGCHANNELBINDING": "require",
    "PGGSSENCMODE": "require",
    "PGTARGETSESSIONATTRS": "standby",
    "PGREQUIRESSL": "1",
    "PGMINPROTOCOLVERSION": "3.2",
    "PGPASSWORD": "not asked for",
    "PGUSER": "somebody",
    "PGDATABASE": "elsewhere",
    "PGPORT": "1",
    "PGHOST": "192.0.2.1",
}


def test_an_environment_made_for_another_server_breaks_nothing(
    dsqlproxy: Exec,
) -> None:
    asked = dsqlproxy.with_environment(**HOSTILE)
    done = asked.run("psql", "-XAtc", "select current_user")
    assert (done.code, done.out, done.err) == (0, "admin\n", "")
