"""Sessions whose upstream is cut after so many bytes, and what must follow (74).

A `Script` is played in lock-step: frames are sent, their answer is read to its end,
then the next. It says of each step what the client must be told if the upstream is lost
there: that is the table of losses (docs/swap.md), written down by hand for each script
and not derived from the tracker::

    Step(insert("a"), "CZ", Verdict.UNKNOWN_COMMIT, writes="a")

Each written row has an id of its own, and `Account` knows how often it may exist.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from dsqlproxy.pgproto.framing import HEADER_BYTES, Frame
from dsqlproxy.pgproto.messages import ErrorResponse
from dsqlproxy.session.relay_state import LIVING
from tests.kit.channels import until
from tests.kit.frames import query
from tests.kit.scripted import EndOfStream
from tests.kit.swapping import Swapping
from tests.kit.tamper_plans import Eof, How, Reset, Way, at_byte
from tests.kit.wire_client import WireClient, values

ID: Final = "0000000"
"""What stands for an id's number in a script; all ids have this length."""


class Verdict(Enum):
    """What a client is told of a loss: SQLSTATE, and how DETAIL begins."""

    NOTHING = ("", "")
    """The upstream is replaced in silence."""
    RUNNING = ("08006", "A statement was running; its outcome is unknown.")
    COMMIT = ("08007", "It is not known whether the transaction was committed.")
    ROLLED_BACK = ("08006", "The open transaction was rolled back.")
    WORDLESS = ("", "the end came within a row")
    """Of a row a part has been passed on; no words can follow it."""
    NOT_REPLACED = (
        "08006",
        "Nothing was running. It could not be replaced: its settings had changed a"
        " moment before.",
    )


@dataclass(frozen=True, slots=True)
class Step:
    """Frames, the letters of their answer, and what a loss means."""

    data: bytes
    answer: str
    lost: Verdict
    """While nothing of the answer has come."""
    then: tuple[tuple[str, Verdict], ...] = ()
    """From the first such frame of the answer on."""
    at_rest: Verdict = Verdict.NOTHING
    """When all of it has come."""
    writes: str = ""
    """Rows that exist if the step has taken effect, a letter each."""
    is_commit: bool = False
    """Whether its CommandComplete says already that the rows exist."""
    units: int = 1

    def verdict(self, answered: str) -> Verdict:
        """Say what a loss means when so much of the answer has come."""
        if answered == self.answer:
            return self.at_rest
        verdict = self.lost
        for kind, later in self.then:
            if kind in answered:
                verdict = later
        return verdict


Script = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Cut:
    """Where the upstream is cut, and how."""

    way: Way
    byte: int
    how: How


@dataclass
class Length:
    """How many bytes a script has, step by step, and the frames of its answers."""

    sent: list[int] = field(default_factory=list)
    answers: list[list[int]] = field(default_factory=list)
    """The sizes of the frames of each step's answer."""

    def cuts(self) -> Iterator[tuple[Way, int]]:
        """Give every place."""
        yield from ((Way.TO_SERVER, byte) for byte in range(sum(self.sent) + 1))
        yield from ((Way.TO_PROXY, byte) for byte in range(sum(map(sum, self.answers))))


@dataclass
class Account:
    """How often rows may exist, as far as clients know."""

    allowed: dict[str, frozenset[int]] = field(default_factory=dict)

    def note(self, ids: list[str], *counts: int) -> None:
        """Note of rows how often each may exist."""
        self.allowed.update(dict.fromkeys(ids, frozenset(counts)))

    async def check(self, proxy: Swapping) -> list[str]:
        """Compare with the table, and tell what is not as it must be."""
        async with WireClient.session(proxy.where) as client:
            ids = values(await client.ask(query("select id from cut")))
            await client.leave()
        present = Counter(ids)
        return [
            f"row {id_} is there {present[id_]} times, allowed: {sorted(counts)}"
            for id_, counts in self.allowed.items()
            if present[id_] not in counts
        ]


class Play:
    """One play of a script over a proxy that has no other session."""

    def __init__(
        self, proxy: Swapping, script: Script, number: int, account: Account
    ) -> None:
        self._proxy = proxy
        self._script = script
        self._number = f"{number:0{len(ID)}d}"
        self._account = account
        self._recoveries = 0
        self.length = Length()

    async def run(self, cut: Cut | None = None, length: Length | None = None) -> None:
        """Play it, and see that the client is told what it must be."""
        async with WireClient.session(self._proxy.where) as client:
            connection = self._proxy.tamper.connections[-1].number
            self._recoveries = self._proxy.count("session recovered")
            at, verdicts, is_at_rest = -1, {Verdict.NOTHING}, False
            if cut is not None and length is not None:
                fault = Reset() if cut.how is How.RESET else Eof()
                moment = at_byte(cut.way, cut.byte)
                self._proxy.tamper.plan(moment, fault, connection=connection)
                at, verdicts, is_at_rest = self._place(cut, length)
            for index, step in enumerate(self._script):
                end = await self._perform(client, step)
                if index == at and is_at_rest and end is None:
                    end = await self._loss_at_rest(client, step)
                    verdicts = {step.at_rest}  # nothing was overtaken
                elif index == at:
                    assert end is not None, "an answer came that was cut off"
                if end is not None:
                    assert index == at, end
                    assert end in verdicts, (end, verdicts)
                    return
            await client.leave()

    async def _perform(self, client: WireClient, step: Step) -> Verdict | None:
        """Do a step; give what is told where its answer ends early."""
        data = step.data.replace(ID.encode(), self._number.encode())
        self.length.sent.append(len(data))
        client.send_now(data)
        answered = ""
        sizes: list[int] = []
        self.length.answers.append(sizes)
        while answered != step.answer:
            try:
                received = await client.receive_frame()
            except EndOfStream:
                received = _NOTHING
            end = _end(received)
            if end is not None:
                await client.receive_rest()
                self._keep_account(step, answered, end)
                return end
            answered += chr(received.type)
            sizes.append(HEADER_BYTES + len(received.body))
            assert step.answer.startswith(answered), answered
        self._keep_account(step, answered, None)
        return None

    def _keep_account(self, step: Step, answered: str, end: Verdict | None) -> None:
        ids = [f"{letter}{self._number}" for letter in step.writes]
        if end is None or (step.is_commit and "C" in answered):
            self._account.note(ids, 1)
        elif end in {Verdict.COMMIT, Verdict.WORDLESS}:
            self._account.note(ids, 0, 1)
        else:
            self._account.note(ids, 0)

    def _place(self, cut: Cut, length: Length) -> tuple[int, set[Verdict], bool]:
        """Say in which step a cut is, what may be told, and if it is at its end."""
        if cut.way is Way.TO_SERVER:
            at, _ = _find(length.sent, cut.byte)
            step = self._script[at]
            ends = len(step.answer) if step.units > 1 else 0
            return at, {step.verdict(step.answer[:n]) for n in range(ends + 1)}, False
        at, left = _find([sum(sizes) for sizes in length.answers], cut.byte)
        step, sizes = self._script[at], length.answers[at]
        whole = 0
        while whole < len(sizes) and sum(sizes[: whole + 1]) <= left:
            whole += 1
        first = 0 if cut.how is How.RESET else whole  # a reset may overtake
        verdicts = {step.verdict(step.answer[:n]) for n in range(first, whole + 1)}
        if step.answer[whole:][:1] in {"D", "d"}:
            passed = left - sum(sizes[:whole])
            if passed >= HEADER_BYTES:
                verdicts = {Verdict.WORDLESS}
        return at, verdicts, whole == len(sizes)

    async def _loss_at_rest(self, client: WireClient, step: Step) -> Verdict | None:
        """Wait until the loss is noticed; what is said then is no statement's lot."""
        relay, events = self._proxy.kept().relay, self._proxy.events
        before = self._recoveries
        await until(
            lambda: (
                relay.is_upstream_lost
                or relay.state not in LIVING
                or len(events.named("session recovered")) > before
            )
        )
        if step.at_rest is Verdict.NOTHING:
            return None
        end = _end(await client.receive_frame())
        await client.receive_end()
        return end


_NOTHING: Final = Frame(0, b"")


def _end(received: Frame) -> Verdict | None:
    """Read what a frame says of the session's end, if it does."""
    if received is _NOTHING:
        return Verdict.WORDLESS
    if chr(received.type) != "E":
        return None
    error = ErrorResponse.decode(received.body)
    if error.severity != "FATAL":
        return None
    return Verdict((error.sqlstate, error.detail))


def _find(sizes: list[int], byte: int) -> tuple[int, int]:
    """Say in which part a byte is, and how many of the part it makes."""
    for index, size in enumerate(sizes):
        if size and byte <= size:
            return index, byte
        byte -= size
    raise AssertionError("a cut is within the script")


async def play_all(
    proxies: list[Swapping], jobs: list[tuple[Script, Length, Cut]], account: Account
) -> list[str]:
    """Play scripts with their cuts, over several proxies at a time; give what fails."""
    numbered = enumerate(jobs, 1)
    failures: list[str] = []

    async def work(proxy: Swapping) -> None:
        for number, (script, length, cut) in numbered:
            try:
                await Play(proxy, script, number, account).run(cut, length)
            except (AssertionError, EndOfStream, TimeoutError) as error:
                data = [step.data for step in script]
                failures.append(f"{type(error).__name__} {error} at {cut} in {data}")
            proxy.tamper.forget_plans()
            await proxy.until("session closed", proxy.count("session opened"))

    async with asyncio.TaskGroup() as group:
        for proxy in proxies:
            group.create_task(work(proxy))
    return failures


def insert(letter: str) -> bytes:
    """Write a row."""
    return query(f"insert into cut values('{letter}{ID}')")
