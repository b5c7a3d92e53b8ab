"""Looks at all sessions once in a while, so that the relay need not at each message.

Which sessions are idle: the next message of such a one is looked at before it goes
on (`Keeper.first_message`). And whether the clocks still agree: if not, this machine
slept, or its clock was set, and no upstream is to be trusted.
"""

import asyncio
from typing import Protocol

from dsqlproxy.clocks import Clocks

TICK_SECONDS = 1.0


class Watched(Protocol):
    """A session that is watched."""

    def look(self) -> bool:
        """Look whether it is idle, and say so: then it tells when it no longer is."""

    def clocks_jumped(self) -> None:
        """Learn that the clocks disagree."""


class Watch:
    """The sessions of one proxy. An idle one costs nothing until it speaks again."""

    def __init__(self, clocks: Clocks) -> None:
        self._clocks = clocks
        self._read_at = clocks.read()
        self._idle: set[Watched] = set()
        self._busy: set[Watched] = set()

    def add(self, session: Watched) -> None:
        """Begin to watch a session, or learn that an idle one speaks again."""
        self._idle.discard(session)
        self._busy.add(session)

    def discard(self, session: Watched) -> None:
        """Stop watching a session, if it was watched."""
        self._idle.discard(session)
        self._busy.discard(session)

    def look(self) -> None:
        """Look once."""
        idle = [session for session in self._busy if session.look()]
        self._busy.difference_update(idle)
        self._idle.update(idle)
        now = self._clocks.read()
        if now.has_jumped_since(self._read_at):
            for session in (*self._busy, *self._idle):
                session.clocks_jumped()
        self._read_at = now

    async def run(self) -> None:
        """Look once a second, until cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.look()
