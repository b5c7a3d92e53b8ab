"""The steps of a swap, and what may go wrong at each: the vocabulary of the matrix.

A `Carried` session has everything that a swap carries: a named statement, the unnamed
one, settings that the new upstream has to be told. It has been moved once, so that a
snapshot of its settings exists. Its upstream is connection 2; what replaces it is 3::

    async with carried_session(proxy) as session:
        plan_fault(proxy.tamper, STEPS["capture new"], FAULTS["reset"])
        assert not await proxy.swap()
        await session.check()               # nobody noticed
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from dsqlproxy.pgproto.framing import frame
from tests.kit.frames import SYNC, bind, close, execute, parse, query
from tests.kit.swapping import Swapping
from tests.kit.tamper import Tamper
from tests.kit.tamper_plans import (
    Eof,
    Error,
    Fatal,
    Fault,
    Inject,
    Moment,
    Plan,
    Replace,
    Reset,
    Stall,
    before,
    on_login,
)
from tests.kit.wire_client import WireClient, letters, values

OLD, NEW = 2, 3

_NAMED = "select $1::int + 1 as named"
_UNNAMED = "select 'unnamed ' || current_setting('search_path')"
_CAPTURE = b"current_setting('client_encoding'"
_SHOW = (
    "select current_setting('search_path') || ' ' ||"
    " current_setting('extra_float_digits')"
)


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the swap: which connection, and which frame to the server begins it."""

    connection: int
    moment: Moment
    value_kind: str = ""
    """The type of the frame that answers with something that is believed."""


STEPS = {
    "login": Step(NEW, on_login()),
    "baseline": Step(NEW, before(">P", 1, containing=_CAPTURE), "D"),
    "early replay": Step(NEW, before(">P", 1, containing=_NAMED.encode())),
    "capture old": Step(OLD, before(">P", 1, containing=_CAPTURE), "D"),
    "describe old": Step(OLD, before(">D", 1, containing=b"Sa\0"), "T"),
    "set": Step(NEW, before(">P", 1, containing=b"pg_catalog.set_config")),
    "parse": Step(NEW, before(">P", 2, containing=_NAMED.encode())),
    "describe new": Step(NEW, before(">D", 1, containing=b"Sa\0"), "T"),
    "unnamed": Step(NEW, before(">P", 1, containing=_UNNAMED.encode())),
    "capture new": Step(NEW, before(">P", 3, containing=_CAPTURE), "D"),
}
"""In their order; from "capture old" on the client may notice."""


def _wrong(body: bytes) -> bytes:
    """Change a value, or a name, in a row or its description; its length stays."""
    return body.replace(b"UTF8", b"UTF7").replace(b"named", b"nAmed")


def _too_few(_: bytes) -> bytes:
    """Give a row, or a description of one, without a column."""
    return b"\0\0"


FAULTS: dict[str, Sequence[Fault]] = {
    "eof": [Eof()],
    "reset": [Reset()],
    "fatal": [Fatal()],
    "error": [Error("XX000", "no")],
    "stall": [Stall()],
    "garbage": [Inject.garbage()],
    "another answer": [Inject(frame(ord("n")))],
    "part of a frame, then silence": [Inject(b"D\0\0\0\x50\0\x15abc"), Stall()],
    "a wrong value": [Replace(_wrong)],
    "too few values": [Replace(_too_few)],
}
_ENDS = ("eof", "reset", "fatal")
"""After which the connection is gone."""
BEFORE_THE_SWITCH = ("login", "baseline", "early replay")
BROKEN = (*_ENDS, "stall", "garbage", "another answer", "part of a frame, then silence")
"""After which a connection is of no use any more."""


def plan_fault(tamper: Tamper, step: Step, fault: str) -> Plan:
    """Have something go wrong at a step; what comes first is the plan's last fault."""
    plans = []
    for each in FAULTS[fault]:
        if isinstance(each, Replace):
            each = replace(each, kind=step.value_kind)  # noqa: PLW2901
        plans.append(tamper.plan(step.moment, each, connection=step.connection))
    return plans[-1]


@dataclass
class Carried:
    """A session with everything that is carried over."""

    proxy: Swapping
    client: WireClient
    process_id: str = ""
    has_ended: bool = False
    """Whether the test has seen its end."""
    expected: str = "two, public 3"

    async def check(self) -> None:
        """See that all is there; every answer is one to what was asked."""
        asked = await self.client.ask(bind() + execute() + SYNC)
        path = self.expected.rpartition(" ")[0]
        assert values(asked) == [f"unnamed {path}"], asked
        named = await self.client.ask(bind("41", statement="a") + execute() + SYNC)
        assert values(named) == ["42"], named
        shown = await self.client.ask(_aside(_SHOW))
        assert values(shown) == [self.expected], shown

    async def served_by(self) -> str:
        """Say by which process it is served; the unnamed statement stays."""
        (number,) = values(await self.client.ask(_aside("select pg_backend_pid()")))
        return number

    async def is_still_there(self) -> bool:
        """Say whether it is served as before."""
        return await self.served_by() == self.process_id


def _aside(sql: str) -> bytes:
    """Ask by a statement that is gone afterwards."""
    return (
        parse(sql, name="aside")
        + bind(statement="aside")
        + execute()
        + close("S", "aside")
        + SYNC
    )


@asynccontextmanager
async def carried_session(
    proxy: Swapping, *, is_clean: bool = False
) -> AsyncIterator[Carried]:
    """Open one; ``is_clean`` leaves the settings as the snapshot has them."""
    async with WireClient.session(proxy.where) as client:
        await client.ask(parse(_NAMED, name="a") + SYNC)
        if is_clean:
            await client.ask(query("set search_path to two, public"))
            await client.ask(query("set extra_float_digits to 3"))
        assert await proxy.swap(), proxy.events.all
        proxy.calm_down()
        if not is_clean:
            await client.ask(query("set search_path to two, public"))
            await client.ask(query("set extra_float_digits to 3"))
        assert letters(await client.ask(parse(_UNNAMED) + SYNC)) == "1Z"
        session = Carried(proxy, client)
        session.process_id = await session.served_by()
        yield session
        if not session.has_ended:
            await client.leave()
