"""What clients do at each step of a swap (part E of the catalogue: 66, 67).

At each step the connection on which it happens is held back, the client does something,
and then the swap either goes on or fails. Before the switch begins a client is served
by the old upstream as if there were no swap; from then on it waits.
"""

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from tests.kit.channels import until
from tests.kit.frames import SYNC, TERMINATE, bind, execute, parse, query
from tests.kit.swap_faults import (
    BEFORE_THE_SWITCH,
    NEW,
    STEPS,
    Carried,
    carried_session,
)
from tests.kit.swapping import DEFERRED, SWAPPED, Swapping, swapping
from tests.kit.tamper_plans import Delay, Plan
from tests.kit.wire_client import WireClient, letters, values

ENDS = ("completed", "failed")
AT_EACH_STEP = pytest.mark.parametrize("step", STEPS)
HOWEVER_IT_ENDS = pytest.mark.parametrize("end", ENDS)


@dataclass
class HeldSwap:
    """A swap that stands still at a step."""

    session: Carried
    step: str
    plan: Plan

    @classmethod
    async def at(cls, session: Carried, step: str) -> "HeldSwap":
        """Begin a swap, and wait until it has come to the step."""
        where = STEPS[step]
        tamper = session.proxy.tamper
        plan = tamper.plan(where.moment, Delay(), connection=where.connection)
        session.proxy.swap_soon()
        await plan.fired.wait()
        session.proxy.calm_down()  # no other attempt than this one
        return cls(session, step, plan)

    @property
    def is_early(self) -> bool:
        """Whether the client is served as if there were no swap."""
        return self.step in BEFORE_THE_SWITCH

    async def until_client_waits(self) -> None:
        """Wait until what the client said is kept back."""
        relay = self.session.proxy.kept().relay
        await until(lambda: relay.is_client_waiting)

    def go_on(self, end: str) -> None:
        """Let it complete, or fail because the new upstream is lost."""
        if end == "failed":
            self.session.proxy.tamper.kill(NEW)
        self.plan.release()


def insert(id_: str) -> bytes:
    """Write an id, and say by which server process."""
    sql = f"insert into said values ('{id_}') returning pg_backend_pid()"  # noqa: S608
    return query(sql)


def insert_extended(id_: str) -> bytes:
    """Do so in the extended protocol."""
    sql = "insert into said values ($1) returning pg_backend_pid()"
    return parse(sql) + bind(id_) + execute() + SYNC


async def times_said(proxy: Swapping, id_: str) -> int:
    """Count an id, by a session of its own."""
    async with WireClient.session(proxy.where) as client:
        sql = f"select count(*) from said where id = '{id_}'"  # noqa: S608
        count = await client.value(sql)
        await client.leave()
    return int(count)


@pytest.fixture
async def id_(postgres: EmbeddedPostgres) -> str:
    await postgres.execute("create table if not exists said (id text)")
    return str(uuid.uuid4())


@AT_EACH_STEP
@HOWEVER_IT_ENDS
@pytest.mark.parametrize("say", [insert, insert_extended])
async def test_66_what_a_client_says_at_a_step_is_answered_once(
    postgres: EmbeddedPostgres,
    step: str,
    end: str,
    say: Callable[[str], bytes],
    id_: str,
) -> None:
    async with swapping(postgres) as proxy, carried_session(proxy) as session:
        held = await HeldSwap.at(session, step)
        client, said = session.client, say(id_)
        half = query("select 'in two parts'")
        client.send_now(said + half[:9])
        if held.is_early:
            assert values(await client.until_ready()) == [session.process_id]
        else:
            await held.until_client_waits()
        held.go_on(end)
        if not held.is_early:
            (by,) = values(await client.until_ready())
            assert (by == session.process_id) == (end == "failed")
        client.send_now(half[9:])
        assert values(await client.until_ready()) == ["in two parts"]
        if end == "completed":
            await proxy.until(SWAPPED, 2)
        else:
            await proxy.until(DEFERRED)
        await session.client.leave()
        session.has_ended = True
        assert await times_said(proxy, id_) == 1


Leaving = Callable[[Carried, bytes], Awaitable[None]]


async def _terminate(session: Carried, said: bytes) -> None:
    session.client.send_now(said + TERMINATE)


async def _end_writing(session: Carried, said: bytes) -> None:
    session.client.send_now(said)
    session.client.end_writing()


async def _reset(session: Carried, said: bytes) -> None:
    session.client.send_now(said)
    session.client.reset()


@AT_EACH_STEP
@HOWEVER_IT_ENDS
@pytest.mark.parametrize("leave", [_terminate, _end_writing])
async def test_67_a_client_that_has_said_its_last_at_a_step_gets_its_answers(
    postgres: EmbeddedPostgres, step: str, end: str, leave: Leaving, id_: str
) -> None:
    # Also 9 and 10 of the orderings.
    async with swapping(postgres) as proxy, carried_session(proxy) as session:
        session.has_ended = True
        held = await HeldSwap.at(session, step)
        await leave(session, insert(id_))
        if not held.is_early:
            await held.until_client_waits()
        held.go_on(end)
        answer = await session.client.until_ready()
        assert letters(answer) == "TDCZ"
        await session.client.receive_end()
        reason = "client_terminated" if leave is _terminate else "client_closed"
        await proxy.until("session closed", reason=reason)
        await proxy.tamper.until(lambda: not proxy.tamper.open_numbers)
        assert await times_said(proxy, id_) == 1


@AT_EACH_STEP
@HOWEVER_IT_ENDS
async def test_67_a_client_that_breaks_off_at_a_step_leaves_nothing(
    postgres: EmbeddedPostgres, step: str, end: str, id_: str
) -> None:
    async with swapping(postgres) as proxy, carried_session(proxy) as session:
        session.has_ended = True
        held = await HeldSwap.at(session, step)
        await _reset(session, insert(id_))
        await proxy.until("session closed")
        held.go_on(end)
        await proxy.tamper.until(lambda: not proxy.tamper.open_numbers)
        assert await times_said(proxy, id_) <= 1
