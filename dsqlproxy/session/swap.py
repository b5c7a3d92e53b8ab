"""The swap: another upstream under a living session, as a transaction.

    open       log in early, in the background; tell the new upstream what the session
               has so far (statements under their environments, settings)
    wait       for a moment with nothing under way: first for one that lasts, later
               for any, holding the client's next request
    ask        the old upstream, in private, for its settings and statements
    tell       the new one what it still lacks, and ask it the same
    verify     byte for byte
    ---------- point of no return: `Kept.adopt`, one turn of the event loop ----------
    go on      what the client said meanwhile goes to the new upstream

Until there the old upstream has only been read from. So whatever fails before is
rolled back by closing the new one, and nobody has noticed but for a pause.
"""

import asyncio
import contextlib

from dsqlproxy.errors import SwapError
from dsqlproxy.session.exchange import Exchange, settled, tell
from dsqlproxy.session.kept import Kept
from dsqlproxy.session.lifetime import Phase, SwapWindow
from dsqlproxy.session.pins import NotCarriedOver
from dsqlproxy.session.relay_state import LIVING, RelayState
from dsqlproxy.session.replay import Answers, Replica, Request
from dsqlproxy.upstream.connector import Upstream

SWITCH_SECONDS = 2.0
"""How long a client may be kept waiting between asking the old upstream and the end."""


class Swap:
    """One attempt to replace the upstream of a session."""

    def __init__(self, kept: Kept, window: SwapWindow) -> None:
        self._kept = kept
        self._relay = kept.relay
        self._window = window
        self._new: Upstream | None = None
        self._replica = Replica(kept.memory)
        self._has_hold = False
        self._exchange: Exchange | None = None
        self.has_begun = False
        """Whether the client may have noticed: its upstream was asked in private."""
        self.pause_seconds = 0.0
        self.age_seconds = 0.0
        """How old the old upstream was at the end."""

    async def run(self) -> None:
        """Do it, or raise: `SwapError`, or what the connector raises.

        After either, `clean_up` puts everything back that was not carried out.
        """
        kept = self._kept
        kept.refuse_if_pinned()
        async with contextlib.AsyncExitStack() as turn:
            await self._wait_for_turn(turn)
            new = self._new = await kept.open_upstream()
        await tell(new.channel, self._replica, self._replica.baseline(new.parameters))
        await tell(new.channel, self._replica, self._replica.early())
        await self._wait_for_moment(new)
        await self._switch(new)

    async def clean_up(self, *, may_begin: bool, is_suspect: bool) -> None:
        """Roll back what was begun; does nothing after a completed swap.

        Where no transaction ``may_begin`` on the old upstream any more, a client that
        waits goes on waiting, for the next attempt; and while the old upstream
        ``is_suspect``, until it has been asked whether it is there.
        """
        if self._new is not None:
            self._new.channel.abort()
        relay = self._relay
        is_asked = self._exchange is not None and relay.state is RelayState.PAUSED
        if self._exchange and is_asked and not await settled(self._exchange):
            relay.give_up_upstream()
        is_paused = relay.state is RelayState.PAUSED
        if not may_begin or (is_paused and is_suspect):
            return
        if self._has_hold and not relay.is_upstream_lost:
            relay.release()

    async def _wait_for_turn(self, turn: contextlib.AsyncExitStack) -> None:
        """Wait until the limiter lets a login pass; near the limit, more urgently."""
        limiter = self._kept.services.limiter
        seconds = self._window.insist_seconds - self._kept.upstream_age
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await turn.enter_async_context(limiter.swap())
                    return
        await turn.enter_async_context(limiter.swap(is_urgent=True))

    # -- waiting -------------------------------------------------------------------

    async def _wait_for_moment(self, new: Upstream) -> None:
        """Return with the relay paused, and nothing of the session under way."""
        relay = self._relay
        while self._phase() is Phase.WARM and relay.state is not RelayState.PAUSED:
            passed = relay.bytes_in + relay.bytes_out
            await asyncio.sleep(self._window.settle_seconds)
            self._check(new)
            is_still = relay.bytes_in + relay.bytes_out == passed
            if is_still and relay.at_swap_point and relay.state is RelayState.RUNNING:
                relay.pause()
                self._has_hold = True
                return
        await self._make_moment(new)

    async def _make_moment(self, new: Upstream) -> None:
        """Hold the client at the end of a request, and wait for a quiet moment."""
        relay = self._relay
        moment: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def seize() -> None:
            # In the call in which the moment was seen: in the next it may be gone.
            relay.pause()
            if not moment.done():
                moment.set_result(None)

        def lose() -> None:
            if not moment.done():
                moment.set_exception(SwapError("the new upstream was lost"))

        if relay.state is RelayState.PAUSED:
            self._has_hold = True  # since an attempt that came to nothing
            return
        if relay.state not in LIVING:
            raise SwapError("the session is ending")
        self._has_hold = True
        relay.insist(seize)
        new.channel.when_ended(lose)
        try:
            await moment
        finally:
            new.channel.when_ended(None)

    # -- the switch ----------------------------------------------------------------

    async def _switch(self, new: Upstream) -> None:
        kept = self._kept
        self.has_begun = True
        began_at = kept.services.clock()
        try:
            async with asyncio.timeout(SWITCH_SECONDS):
                kept.refuse_if_pinned()
                changed = await self._carry_over(new)
        except TimeoutError:
            msg = f"the switch took longer than {SWITCH_SECONDS:g} s"
            raise SwapError(msg) from None
        finally:
            self.pause_seconds = kept.services.clock() - began_at
            self.age_seconds = self._kept.upstream_age
        self._check(new)
        kept.adopt(new, self._replica, changed)
        self._new = None

    async def _carry_over(self, new: Upstream) -> bytes:
        """Make the new upstream equal to the old; give what the client is told."""
        replica = self._replica
        request = replica.inspection(may_drop_stale=self._phase() is not Phase.WARM)
        try:
            old = await self._ask_old(request)
        except NotCarriedOver as error:
            if not error.may_retry:
                raise
            old = await self._ask_old(request)
        await tell(new.channel, replica, replica.completion(old))
        return replica.verified()

    async def _ask_old(self, request: Request) -> Answers:
        relay = self._relay
        if relay.state is not RelayState.PAUSED or relay.is_upstream_lost:
            # Between the quiet moment and this turn of the loop.
            raise SwapError("the session lost a peer")
        answers = Answers(request)
        self._exchange = relay.ask(request.data, answers)
        await self._exchange.wait()
        return answers

    def _check(self, new: Upstream) -> None:
        """See that the new upstream is still there."""
        channel = new.channel
        if channel.has_ended or channel.is_lost:
            raise SwapError("the new upstream was lost")

    def _phase(self) -> Phase:
        return self._window.phase(self._kept.upstream_age)
