"""`dsqlproxy exec` with real commands: their output, codes, signals and terminal."""

import contextlib
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dsqlproxy.commands.job import FORCE_SECONDS
from dsqlproxy.emulator.postgres import EmbeddedPostgres
from tests.end_to_end.executing import (
    Exec,
    listener_of,
    program_of,
    wait_until_stopped,
)
from tests.end_to_end.test_psql import CANCELED
from tests.kit.clients import (
    Program,
    Served,
    serve,
    wait_until_running,
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


# -- output and codes ----------------------------------------------------------------


def test_the_output_is_that_of_the_command_and_nothing_else(dsqlproxy: Exec) -> None:
    done = dsqlproxy.run("psql", "-XAtc", "select current_user, 6 * 7")
    assert (done.code, done.out, done.err) == (0, "admin|42\n", "")


def test_flags_do_instead_of_a_file(served: Served) -> None:
    settings = {
        f"DSQLPROXY_LISTENER_{name.upper()}": str(value)
        for name, value in listener_of(served).items()
        if name != "cluster"
    }
    flags = ("--cluster", served.emulator.cluster, "--role", "admin")
    dsqlproxy = Exec(program_of(served, **settings), flags)
    # The role is that of every session, whatever user is named.
    done = dsqlproxy.run("psql", "-XAtc", "select current_user", "-U", "somebody")
    assert (done.code, done.out, done.err) == (0, "admin\n", "")


def test_what_is_piped_in_reaches_the_command(dsqlproxy: Exec) -> None:
    done = dsqlproxy.run("psql", "-XAt", said="select 1;\nselect 2;\n")
    assert (done.code, done.lines, done.err) == (0, ["1", "2"], "")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        pytest.param(("psql", "-Xc", "select nonsense"), 1, id="a failed statement"),
        pytest.param(("psql", "-Xc", "select 1", "-p", "1"), 2, id="no connection"),
        pytest.param(("sh", "-c", "exit 3"), 3, id="a shell's"),
        pytest.param(("sh", "-c", "kill -KILL $$"), 137, id="killed"),
    ],
)
def test_the_code_is_that_of_the_command(
    dsqlproxy: Exec, command: tuple[str, ...], code: int
) -> None:
    assert dsqlproxy.run(*command).code == code


def test_a_command_that_cannot_be_run(dsqlproxy: Exec, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/nowhere/sh\n")
    for command, code, reason in (
        ("no-such-command", 127, "there is no such command in PATH"),
        (str(tmp_path / "missing"), 127, "there is no such file"),
        (str(script), 126, "Permission denied"),
        (str(tmp_path), 126, "Permission denied"),
    ):
        done = dsqlproxy.run(command)
        assert (done.code, done.out) == (code, "")
        assert done.err == f"dsqlproxy: cannot run {command}: {reason}\n"
    script.chmod(0o755)
    done = dsqlproxy.run(str(script))
    assert (done.code, "its interpreter" in done.err) == (127, True)


def test_an_error_of_the_cluster_is_told_by_the_command_and_the_log(
    dsqlproxy: Exec,
) -> None:
    done = dsqlproxy.with_flags("--log-format", "text").run(
        "psql", "-Xc", "select 1", "-U", "nobody"
    )
    assert (done.code, done.out) == (2, "")
    assert "FATAL:  " in done.err
    assert " WARNING login failed " in done.err
    assert " INFO " not in done.err


def test_a_misspelt_variable_is_mentioned(dsqlproxy: Exec) -> None:
    done = dsqlproxy.with_environment(DSQLPROXY_LOG_LEVLE="info").run("true")
    assert (done.code, "did you mean DSQLPROXY_LOG_LEVEL?" in done.err) == (0, True)


def test_more_is_logged_when_asked_for(dsqlproxy: Exec) -> None:
    for asked in (
        dsqlproxy.with_flags("--log-level", "info"),
        dsqlproxy.with_environment(DSQLPROXY_LOG_LEVEL="info"),
    ):
        done = asked.run("psql", "-XAtc", "select 1")
        assert (done.code, done.out) == (0, "1\n")
        assert " INFO session opened " in done.err


# -- signals -------------------------------------------------------------------------

# Waited for, not trapped: one that comes just before pause() would wait for the next.
TRAPPING = """
import os, signal, sys
names = ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2")
numbers = {signal.Signals["SIG" + name] for name in names}
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
os.write(1, b"ready\\n")
while True:
    number = signal.sigwait(numbers)
    os.write(1, f"{signal.Signals(number).name}\\n".encode())
    if number == signal.SIGTERM: sys.exit(5)
"""
STUBBORN = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
os.write(1, b"ready\\n")
while signal.sigwait({signal.SIGTERM}): os.write(1, b"no\\n")
"""


def python(program: str) -> tuple[str, ...]:
    return sys.executable, "-c", program


def test_two_run_at_once_and_each_ends_with_its_command(
    served: Served, dsqlproxy: Exec
) -> None:
    statements = ("select pg_sleep(61.01)", "select pg_sleep(61.02)")
    with contextlib.ExitStack() as stack:
        both = [
            stack.enter_context(dsqlproxy.running("psql", "-Xc", statement))
            for statement in statements
        ]
        for statement in statements:
            wait_until_running(served, statement)
        for running in both:
            running.process.terminate()
            assert running.wait().code == 128 + signal.SIGTERM


def test_signals_are_passed_on_and_the_end_is_waited_for(dsqlproxy: Exec) -> None:
    with dsqlproxy.running(*python(TRAPPING)) as running:
        assert running.line() == "ready"
        for name in ("HUP", "INT", "QUIT", "USR1", "USR2", "HUP", "TERM"):
            # No terminal here: nobody else tells the command of Ctrl-C.
            running.process.send_signal(signal.Signals[f"SIG{name}"])
            assert running.line() == f"SIG{name}"
        done = running.wait()
    assert (done.code, done.err) == (5, "")


def test_a_command_that_does_not_end_is_killed_when_asked_again(
    dsqlproxy: Exec,
) -> None:
    with dsqlproxy.running(*python(STUBBORN)) as running:
        assert running.line() == "ready"
        begun = time.monotonic()
        running.process.terminate()
        while running.line() == "no":
            running.process.terminate()
        # Twice at once is once: `timeout` sends to the process and to its group.
        assert time.monotonic() - begun >= FORCE_SECONDS
        assert running.wait().code == 143


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux does it")
def test_the_command_does_not_outlive_a_proxy_that_is_killed(dsqlproxy: Exec) -> None:
    with dsqlproxy.running(*python(STUBBORN)) as running:
        assert running.line() == "ready"
        running.process.kill()
        # The end of its output is the end of both who could write it.
        assert running.wait().code == -signal.SIGKILL


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_signals_that_are_ignored_are_ignored_by_the_command_too(
    dsqlproxy: Exec, loop: str
) -> None:
    say = "import signal; print(*[signal.getsignal(n).name for n in (1, 2, 3, 15)])"
    asked = dsqlproxy.with_flags("--event-loop", loop)
    done = asked.in_shell("trap '' HUP INT; exec \"$@\"", *python(say))
    assert (done.out, done.err) == ("SIG_IGN SIG_IGN SIG_DFL SIG_DFL\n", "")


def test_a_session_that_is_left_over_does_not_keep_the_proxy(
    served: Served, dsqlproxy: Exec
) -> None:
    script = "psql -Xc 'select pg_sleep(61.03)' & read line; exit 7"
    with dsqlproxy.running("sh", "-c", script) as running:
        wait_until_running(served, "pg_sleep(61.03)")
        running.say("end")
        told = time.monotonic()
        done = running.wait()
        assert time.monotonic() - told < 5
    assert done.code == 7
    assert "FATAL:  terminating connection" in done.err


# -- a terminal ----------------------------------------------------------------------


def test_psql_on_a_terminal_has_its_keys(served: Served, dsqlproxy: Exec) -> None:
    psql = (*dsqlproxy.words, "--", "psql", "-X")
    with dsqlproxy.program.on_terminal(*psql) as terminal:
        assert 'Type "help" for help.' in terminal.wait_for("postgres=> ")
        for number in ("61.04", "61.05"):
            terminal.type(f"select pg_sleep({number});\n")
            wait_until_running(served, f"pg_sleep({number})")
            terminal.type("\x03")
            terminal.wait_for(f"ERROR:  {CANCELED}")
            terminal.wait_for("postgres=> ")
        terminal.type("\x03")  # with no statement to cancel
        terminal.wait_for("postgres=> ")
        terminal.type("select 6 * 7;\n")
        assert "42" in terminal.wait_for("(1 row)")
        terminal.type("\\q\n")
        assert terminal.wait() == 0


@pytest.mark.skipif(not shutil.which("bash"), reason="no shell with job control")
def test_a_job_is_stopped_and_continued_as_one(dsqlproxy: Exec) -> None:
    words = " ".join([str(dsqlproxy.program.path), *dsqlproxy.words])
    bash = Path(shutil.which("bash") or "")
    environment = {**dsqlproxy.program.environment, "PS1": "ready$ "}
    shell = Program(bash, environment)
    with shell.on_terminal("--norc", "--noprofile", "-i") as terminal:
        terminal.wait_for("ready$ ")
        terminal.type(f"{words} -- psql -X\n")
        terminal.wait_for("postgres=> ")
        terminal.type("\x1a")
        terminal.wait_for("Stopped")
        terminal.wait_for("ready$ ")
        # The shell sees the proxy only; psql tidies its terminal up before it stops.
        wait_until_stopped(terminal.process.pid)
        terminal.type("fg\n")
        terminal.wait_for("psql -X")
        terminal.type("\nselect 6 * 7;\n")
        assert "42" in terminal.wait_for("(1 row)")
        terminal.type("\\q\n")
        terminal.wait_for("ready$ ")
        terminal.type("exit\n")
        assert terminal.wait() == 0
