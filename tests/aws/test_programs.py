import signal
import subprocess
from collections.abc import Iterator

import pytest

from dsqlproxy.aws.programs import Programs


@pytest.fixture
def programs() -> Iterator[Programs]:
    programs = Programs()
    yield programs
    programs.end(signal.SIGKILL)
    for program in programs._started:
        program.communicate()


def started(programs: Programs, *command: str) -> "subprocess.Popen[bytes]":
    """Start a program as botocore does."""
    return programs.start(list(command), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_what_a_program_prints_is_read(programs: Programs) -> None:
    out, _ = started(programs, "echo", "found").communicate()
    assert out == b"found\n"


def test_there_is_nothing_to_read_and_no_terminal(programs: Programs) -> None:
    command = "read line && exit 1; (: < /dev/tty) 2>/dev/null && exit 2; exit 0"
    program = started(programs, "sh", "-c", command)
    program.communicate()
    assert program.returncode == 0


def test_a_program_that_was_ended_is_waited_for_no_longer(programs: Programs) -> None:
    program = started(programs, "sleep", "600")
    programs.end(signal.SIGTERM)
    assert program.communicate() == (b"", b"")
    assert program.returncode == -signal.SIGTERM


@pytest.mark.parametrize("command", ["sleep 600 & sleep 600", "sleep 600 & exit"])
def test_its_children_end_too_for_they_hold_the_pipe(
    programs: Programs, command: str
) -> None:
    program = started(programs, "sh", "-c", f"echo ready; {command}")
    assert program.stdout is not None
    assert program.stdout.readline() == b"ready\n"
    programs.end(signal.SIGKILL)
    program.communicate()


def test_after_the_end_none_starts(programs: Programs) -> None:
    programs.end(signal.SIGTERM)
    with pytest.raises(TimeoutError):
        started(programs, "echo", "late")


def test_a_program_that_has_ended_is_left_alone(programs: Programs) -> None:
    started(programs, "true").communicate()
    programs.end(signal.SIGKILL)
    programs.end(signal.SIGKILL)
