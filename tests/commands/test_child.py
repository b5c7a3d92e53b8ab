import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dsqlproxy.commands.child import (
    EXIT_CANNOT_RUN,
    EXIT_NOT_FOUND,
    CannotRun,
    Child,
    reaches_from_terminal,
)


def start(*words: str, **environ: str) -> Child:
    return Child.start(words, environ={"PATH": os.environ["PATH"], **environ})


@pytest.mark.both_loops
@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 3", 3), ("exit $CODE", 250), ("kill -HUP $$", 129)],
)
async def test_the_code_is_what_a_shell_would_give(script: str, code: int) -> None:
    assert await start("sh", "-c", script, CODE="250").wait() == code


async def test_a_signal_is_passed_on_and_one_too_late_is_nobodys() -> None:
    child = start("sleep", "60")
    child.send(signal.SIGTERM)
    assert await child.wait() == 143
    child.send(signal.SIGTERM)
    assert not child.is_killed


async def test_it_can_be_killed() -> None:
    child = start("sleep", "60")
    child.kill()
    assert child.is_killed
    assert await child.wait() == 137


async def test_waiting_can_be_given_up() -> None:
    child = start("sleep", "60")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await child.wait()
    child.kill()


def test_a_loop_that_is_gone_does_not_matter() -> None:
    child = start("sleep", "60")

    async def give_up() -> None:
        async with asyncio.timeout(0):
            await child.wait()

    with pytest.raises(TimeoutError):
        asyncio.run(give_up())
    child.kill()


def test_what_cannot_be_run_says_why(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    link = tmp_path / "link"
    link.symlink_to("nowhere")
    for word, code, reason in (
        ("no-such-command", EXIT_NOT_FOUND, "there is no such command in PATH"),
        (str(tmp_path / "none"), EXIT_NOT_FOUND, "there is no such file"),
        (str(link), EXIT_NOT_FOUND, "its interpreter, or what it links to, does not"),
        (str(file), EXIT_CANNOT_RUN, "Permission denied"),
        (str(file / "x"), EXIT_CANNOT_RUN, "Not a directory"),
    ):
        with pytest.raises(CannotRun) as caught:
            start(word)
        assert caught.value.exit_code == code
        assert caught.value.message.startswith(f"cannot run {word}: {reason}")
    file.write_text("\0")
    file.chmod(0o755)
    with pytest.raises(CannotRun, match="Exec format error") as caught:
        start(str(file))
    assert caught.value.exit_code == EXIT_CANNOT_RUN


DESCRIPTORS = """
import os, sys
for number in range(256):
    try: os.fstat(number)
    except OSError: continue
    print(number, end=" ")
"""


def inherited() -> list[int]:
    """Give the descriptors that whoever runs the tests left open."""
    found = []
    for number in range(3, 256):
        try:
            if os.get_inheritable(number):
                found.append(number)
        except OSError:
            continue
    return found


@pytest.mark.both_loops
@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="no list of descriptors")
async def test_it_has_the_descriptors_that_we_were_given_and_none_of_ours(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # A shell's <(...) is one that is given; it was closed before the command began.
    before = inherited()
    given, other_end = os.pipe()
    os.set_inheritable(given, True)
    at = str(tmp_path / "socket")
    async with await asyncio.start_unix_server(lambda _, writer: writer.close(), at):
        reader, writer = await asyncio.open_unix_connection(at)
        with (
            os.fdopen(given),
            os.fdopen(other_end, "w"),
            (tmp_path / "log").open("w"),
            socket.create_server(("127.0.0.1", 0)),
        ):
            assert len(os.listdir("/dev/fd")) > 8  # those of the event loop, too
            assert await start(sys.executable, "-Ic", DESCRIPTORS).wait() == 0
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    assert capfd.readouterr().out.split() == [
        str(number) for number in sorted({0, 1, 2, given, *before})
    ]


def in_new_session(program: str, *, said: str = "") -> str:
    done = subprocess.run(  # noqa: S603 - this interpreter, our own program
        [sys.executable, "-c", program],
        input=said,
        capture_output=True,
        text=True,
        start_new_session=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


def test_without_a_terminal_no_keys_are_signals() -> None:
    program = (
        "from dsqlproxy.commands.child import reaches_from_terminal as tell\n"
        "print(tell())"
    )
    assert in_new_session(program) == "False\n"


def test_a_terminal_that_was_closed_sends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "ctermid", lambda: os.devnull)
    assert not reaches_from_terminal()


def test_standard_input_is_left_to_who_has_it() -> None:
    program = (
        "import subprocess, sys\n"
        "from dsqlproxy.commands.child import leave_standard_input\n"
        "child = subprocess.Popen(['cat'])\n"
        "leave_standard_input()\n"
        "print('ours:', repr(sys.stdin.read()), flush=True)\n"
        "child.wait()\n"
    )
    # Which of the two writes first is open.
    assert in_new_session(program, said="theirs").replace("theirs", "") == "ours: ''\n"


def test_standard_input_that_was_closed_is_nothing_afterwards() -> None:
    program = (
        "import os\n"
        "from dsqlproxy.commands.child import leave_standard_input\n"
        "os.close(0)\n"
        "leave_standard_input()\n"
        "print(os.read(0, 1))"
    )
    assert in_new_session(program) == "b''\n"
