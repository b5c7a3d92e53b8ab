"""What the command of `dsqlproxy exec` gets from who started it, and leaves to it."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.commands.test_orphans import ORPHAN
from tests.end_to_end.executing import Exec
from tests.end_to_end.test_exec import dsqlproxy, python, served

__all__ = ("dsqlproxy", "served")  # fixtures that are borrowed

pytestmark = [
    pytest.mark.skipif(not Path("/bin/bash").exists(), reason="no bash"),
    pytest.mark.parametrize("loop", ["uvloop", "asyncio"]),
]


@pytest.fixture(name="asked")
def with_loop(dsqlproxy: Exec, loop: str) -> Exec:
    return dsqlproxy.with_flags("--event-loop", loop)


def test_what_a_shell_substitutes_for_a_file_can_be_read(asked: Exec) -> None:
    # It was closed before psql began: "/dev/fd/63: No such file or directory".
    done = asked.in_shell('"$@" <(echo "select 42")', "psql", "-XAt", "-f")
    assert (done.code, done.out, done.err) == (0, "42\n", "")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no list of them")
def test_the_command_has_no_descriptor_of_the_proxy(asked: Exec) -> None:
    # Those of the loop and the listener; 9 is what the shell has opened for it.
    script = 'psql -XAtc "select 42"; ls -C /proc/$$/fd; true'
    done = asked.in_shell('exec "$@" 9<&0', "sh", "-c", script)
    assert (done.code, done.out.split()) == (0, ["42", "0", "1", "2", "9"])


@pytest.mark.parametrize(
    ("closed", "out", "err"),
    [
        ("<&-", "42\n", "told\n"),
        (">&-", "", "told\n"),
        ("2>&-", "42\nsaid", ""),
        ("<&- >&- 2>&-", "", ""),
    ],
)
def test_a_stream_that_was_closed_is_nothing_to_the_command(
    asked: Exec, closed: str, out: str, err: str
) -> None:
    # libuv took the number for the event loop itself, and aborted at its end.
    script = 'psql -XAtc "select 42" && cat && echo told >&2 && exit 3'
    done = asked.in_shell(f'exec "$@" {closed}', "sh", "-c", script)
    assert (done.code, done.out, done.err) == (3, out, err)


AS_PROCESS_1 = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


def test_as_process_1_it_reaps_what_has_no_parent(asked: Exec) -> None:
    env = replace(asked.program, path=Path("/usr/bin/env"))
    if env.run(*AS_PROCESS_1, "true").code != 0:
        pytest.skip("no new namespace of processes can be had here")
    words = (str(asked.program.path), *asked.words, "--")
    done = env.run(*AS_PROCESS_1, *words, *python(f"{ORPHAN}raise SystemExit(5)"))
    assert (done.code, done.out, done.err) == (5, "gone\n", "")
