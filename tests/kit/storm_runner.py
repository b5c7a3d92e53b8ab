"""Plays a program over a bare socket, and says how two plays differ.

After each step the player reads until all has come that the step leads to: `Owed`
knows, from what was sent and what has come, whether the server still has something to
say that nothing holds back. So there is no waiting for a time, and none for nothing.

A transcript is the frames of the whole session, in order. Taken out of it is what no
two sessions share: process ids and keys, numbers of tables, moments in time.
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from dsqlproxy.emulator.backend import BackendRefused
from dsqlproxy.pgproto.codes import BackendType
from dsqlproxy.pgproto.framing import Frame, FrameReader
from dsqlproxy.pgproto.messages import BackendKeyData
from dsqlproxy.pgproto.startup import PROTOCOL_3_0, StartupMessage
from tests.kit.frames import SYNC, TERMINATE, bind, close, describe, execute, parse
from tests.kit.owed import Owed
from tests.kit.storm_programs import Program, Step

SECONDS = 20.0
"""No step takes a tenth of this; what does, hangs."""

Where = Path | tuple[str, int]
Elsewhere = Callable[[str], Awaitable[None]]

_MAX_BYTES = 1 << 30
# With the length before it, which is less where the microseconds end in zeros.
_MOMENT = re.compile(rb"(?s:.{4})\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d\.\d+")
_ORACLE = "dsqlproxy oracle"
_ORACLE_SQL = (
    "select 'setting', name, pg_catalog.current_setting(name), ''"
    " from pg_catalog.unnest('{DateStyle, TimeZone, client_encoding, search_path,"
    " IntervalStyle, extra_float_digits, application_name, enable_seqscan,"
    " standard_conforming_strings}'::text[]) as name"
    " union all select 'statement', name, statement, parameter_types::text"
    " from pg_catalog.pg_prepared_statements"
    " where name <> 'dsqlproxy oracle' order by 1, 2"
)

Answer = tuple[str, bytes]
Truth = tuple[tuple[str | None, ...], ...]


@dataclass
class Transcript:
    """What the server said, step by step, and what it said of the session itself."""

    answers: list[tuple[int, Answer]] = field(default_factory=list)
    """(number of the step, (type, body)); step 0 is the login."""
    truths: dict[int, Truth] = field(default_factory=dict)
    """After a step: settings, prepared statements."""
    quiet_after: list[int] = field(default_factory=list)
    """The steps after which the session was at rest."""

    @property
    def frames(self) -> list[Answer]:
        """The frames alone. An answer that nobody flushed may come a step later."""
        return [answer for _, answer in self.answers]

    @property
    def letters(self) -> str:
        """The types of the frames after the login."""
        return "".join(kind for step, (kind, _) in self.answers if step)


class Player:
    """One session; use `play` unless a test has something to do between the steps."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._elsewhere = elsewhere
        self._frames = FrameReader(max_bytes=_MAX_BYTES)
        self._step = 0
        self.owed = Owed()
        self.transcript = Transcript()
        self.said = b""
        """All that was sent after the login, asides included."""
        self.heard: list[Frame] = []
        """All that came after the login, as it came."""

    async def log_in(self, **parameters: str) -> None:
        """Ask for a session; user and database are ``postgres`` unless given."""
        named = {"user": "postgres", "database": "postgres", **parameters}
        startup = StartupMessage(PROTOCOL_3_0, tuple(named.items()))
        self._writer.write(startup.encode())
        while not any(kind == "Z" for kind, _ in self.transcript.frames):
            await self._read()

    async def perform(self, step: Step) -> None:
        """Do a step, and read all that it leads to."""
        self._step += 1
        if step.elsewhere:
            assert self._elsewhere is not None, "nobody runs what runs elsewhere"
            await self._elsewhere(step.elsewhere)
            return
        self._say(step.data)
        await self._settle()
        if self.owed.is_nothing_open:
            self.transcript.quiet_after.append(self._step)

    async def ask_for_truth(self) -> Truth:
        """Ask the session for its settings and prepared statements, when at rest.

        The transcript does not show it, and the unnamed statement, which is only
        described, stays.
        """
        ask = (
            describe("S")
            + SYNC
            + parse(_ORACLE_SQL, name=_ORACLE)
            + bind(statement=_ORACLE, portal=_ORACLE)
            + execute(_ORACLE)
            + close("S", _ORACLE)
            + SYNC
        )
        said = await self.aside(ask)
        rows = tuple(_row(body) for kind, body in said if kind == "D")
        assert rows, f"the server does not tell: {said}"
        end = said.index(("Z", b"I"))
        unnamed = b" ".join(kind.encode() + body for kind, body in said[:end])
        truth = (("unnamed", unnamed.hex()), *rows)
        self.transcript.truths[self._step] = truth
        return truth

    async def aside(self, data: bytes) -> list[Answer]:
        """Ask something at rest that the transcript does not show; give the answers."""
        assert self.owed.is_nothing_open, "asked in the middle of something"
        spoken = len(self.transcript.answers)
        self._say(data)
        await self._settle()
        said = [answer for _, answer in self.transcript.answers[spoken:]]
        del self.transcript.answers[spoken:]
        return said

    async def leave(self) -> None:
        """Say Terminate, and read to the end."""
        self.said += TERMINATE
        self._writer.write(TERMINATE)
        while await self._read():
            pass

    def _say(self, data: bytes) -> None:
        self.owed.sent(FrameReader(max_bytes=_MAX_BYTES).feed(data))
        self.said += data
        self._writer.write(data)

    async def _settle(self) -> None:
        while self.owed.is_something:
            if not await self._read():
                raise ConnectionResetError(f"the server left in step {self._step}")

    async def _read(self) -> bool:
        data = await self._reader.read(65_536)
        for received in self._frames.feed(data):
            if self._step:
                self.heard.append(received)
                self.owed.received(received)
            self.transcript.answers.append((self._step, _normalised(received)))
        return bool(data)


class Executes(Protocol):
    """A server, or one database of it."""

    async def execute(self, *statements: str) -> None:
        """Run statements as the superuser."""


def elsewhere_on(postgres: Executes) -> Elsewhere:
    """Run statements as the superuser; one that fails changes nothing, for all twins.

    One that waits for a lock of the session is a mistake in the program.
    """

    async def run(sql: str) -> None:
        try:
            await postgres.execute("set lock_timeout to '2s'", sql)
        except BackendRefused as refused:
            if refused.response.sqlstate == "55P03":
                raise AssertionError(f"{sql} waits for a lock") from None

    return run


async def play(
    program: Program,
    where: Where,
    *,
    elsewhere: Elsewhere | None = None,
    between: Callable[[Player], Awaitable[None]] | None = None,
    asks_for_truth: bool = False,
    **parameters: str,
) -> Transcript:
    """Play a program in a session of its own; raises when the session ends early.

    ``between`` is called after each step: to move the session, for instance.
    """
    reader, writer = await _connect(where)
    player = Player(reader, writer, elsewhere)
    try:
        async with asyncio.timeout(SECONDS):
            await player.log_in(**parameters)
            for step in program:
                await player.perform(step)
                if between is not None:
                    await between(player)
                if asks_for_truth and player.owed.is_nothing_open:
                    await player.ask_for_truth()
            await player.leave()
    finally:
        writer.close()
    return player.transcript


def check_twins(
    seed: int, program: Program, direct: Transcript, moved: Transcript
) -> None:
    """Fail at the first difference, with the seed and the steps up to it."""
    told = _difference(direct.frames, moved.frames)
    if told is not None:
        at, first, second = told
        step = max(t.answers[at][0] for t in (direct, moved) if at < len(t.answers))
        raise AssertionError(
            f"seed {seed}: frame {at} differs in step {step}\n"
            f"  direct: {first}\n  moved:  {second}\n{_told(program[:step])}"
        )
    for step, truth in direct.truths.items():
        if moved.truths.get(step, truth) != truth:
            raise AssertionError(
                f"seed {seed}: the session is another after step {step}\n"
                f"  direct: {truth}\n  moved:  {moved.truths[step]}\n"
                f"{_told(program[:step])}"
            )


def _difference(
    first: list[Answer], second: list[Answer]
) -> tuple[int, Answer | None, Answer | None] | None:
    for at in range(max(len(first), len(second))):
        one = first[at] if at < len(first) else None
        other = second[at] if at < len(second) else None
        if one != other:
            return at, one, other
    return None


def _told(steps: Program) -> str:
    return "\n".join(f"  {n}. {step!r}" for n, step in enumerate(steps, 1))


async def _connect(
    where: Where,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(where, Path):
        return await asyncio.open_unix_connection(where)
    reader, writer = await asyncio.open_connection(*where)
    connection: socket.socket = writer.get_extra_info("socket")
    # Without it delayed acknowledgements look like differences in time.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return reader, writer


def _row(body: bytes) -> tuple[str | None, ...]:
    values: list[str | None] = []
    position = 2
    for _ in range(int.from_bytes(body[:2])):
        length = int.from_bytes(body[position : position + 4], signed=True)
        position += 4
        text = body[position : position + max(0, length)]
        values.append(None if length < 0 else text.decode("utf-8", "replace"))
        position += max(0, length)
    return tuple(values)


def _normalised(frame: Frame) -> Answer:
    kind, body = frame
    match kind:
        case BackendType.BACKEND_KEY_DATA:
            body = bytes(4 + len(BackendKeyData.decode(body).secret_key))
        case BackendType.NOTIFICATION_RESPONSE:
            body = bytes(4) + body[4:]
        case BackendType.ROW_DESCRIPTION:
            body = _without_tables(body)
        case BackendType.DATA_ROW:
            body = _MOMENT.sub(b"(a moment)", body)
        case _:
            pass
    return chr(kind), body


def _without_tables(body: bytes) -> bytes:
    """Take the tables' numbers out of a RowDescription."""
    parts, position = [body[:2]], 2
    for _ in range(int.from_bytes(body[:2])):
        end = body.index(b"\0", position) + 1
        parts += [body[position:end], bytes(4), body[end + 4 : end + 18]]
        position = end + 18
    return b"".join(parts)
