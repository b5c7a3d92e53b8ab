import asyncio

import pytest

from dsqlproxy.emulator.control import answer_line
from dsqlproxy.emulator.faults import check_fault
from dsqlproxy.emulator.postgres import EmbeddedPostgres
from tests.emulator.kit import Client, ask_control, started, until


class Recorder:
    """An emulator that only remembers what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def add_fault(self, word: str) -> None:
        check_fault(word)
        self.said.append(word)

    def clear_faults(self) -> None:
        self.said.append("clear")

    def expire_sessions(self) -> int:
        return 2

    def end_sessions(self, sqlstate: str) -> int:
        self.said.append(sqlstate)
        return 1

    def status(self) -> dict[str, object]:
        return {"sessions": 0}


@pytest.mark.parametrize(
    ("line", "answer", "said"),
    [
        ("fault reset-after:7", "ok reset-after:7", ["reset-after:7"]),
        ("clear", "ok", ["clear"]),
        ("expire-sessions", "ok 2 sessions", []),
        ("fatal-sessions 57P01", "ok 1 sessions", ["57P01"]),
        ("status", 'ok {"sessions": 0}', []),
    ],
)
def test_a_line_is_obeyed(line: str, answer: str, said: list[str]) -> None:
    recorder = Recorder()
    assert answer_line(line, recorder) == answer
    assert recorder.said == said


@pytest.mark.parametrize(
    "line", ["", "help", "fault", "fault nonsense", "clear all", "fatal-sessions x"]
)
def test_a_bad_line_is_an_error_with_what_is_accepted(line: str) -> None:
    recorder = Recorder()
    answer = answer_line(line, recorder)
    assert answer.startswith("error ")
    assert "accepted" in answer
    assert recorder.said == []


async def test_lines_over_the_socket_are_answered_in_order(
    postgres: EmbeddedPostgres,
) -> None:
    async with started(postgres) as emulator:
        answers = await ask_control(emulator, "fault access-denied", "nonsense")
        assert answers[0] == "ok access-denied"
        assert answers[1].startswith("error accepted: fault NAME[:ARG], ")
        async with Client.secured(emulator) as client:
            await client.start()
            assert "access denied" in (await client.refusal()).message
        assert await ask_control(emulator, "clear") == ["ok"]
        async with Client.session(emulator):
            assert await ask_control(emulator, "expire-sessions") == ["ok 1 sessions"]


async def test_a_line_without_end_is_refused(postgres: EmbeddedPostgres) -> None:
    async with started(postgres) as emulator:
        reader, writer = await asyncio.open_unix_connection(str(emulator.control_path))
        writer.write(b"x" * 5000)
        assert await reader.read() == b"error the line is too long\n"
        writer.close()
        await writer.wait_closed()


async def test_who_leaves_in_the_middle_is_no_trouble(
    postgres: EmbeddedPostgres,
) -> None:
    async with started(postgres) as emulator:
        _, writer = await asyncio.open_unix_connection(str(emulator.control_path))
        writer.write(b"stat")
        writer.transport.abort()
        await until(writer.transport.is_closing)
        assert (await ask_control(emulator, "status"))[0].startswith("ok {")
