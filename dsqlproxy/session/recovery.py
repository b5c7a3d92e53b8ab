"""Recovery: a new upstream for a session whose own was lost with nothing under way.

The old one cannot be asked any more. What the session had is known from the frames
that passed (statements, reported parameters) and from the last snapshot of its
settings; a session of which that is not enough to know is not recovered.

While the client is silent this may take as long as it takes: a laptop without a
network has time. Once the client waits it may take `BUDGET_SECONDS`.
"""

import asyncio
import contextlib

from dsqlproxy.errors import DsqlProxyError, SwapError, UpstreamRejected
from dsqlproxy.session.exchange import tell
from dsqlproxy.session.kept import Kept
from dsqlproxy.session.lifetime import Backoff
from dsqlproxy.session.pins import NotCarriedOver, PinReason
from dsqlproxy.session.relay_state import RelayState
from dsqlproxy.session.replay import Replica
from dsqlproxy.situations.cluster import Cause, cause_of

BUDGET_SECONDS = 30.0
"""How long a client waits for an upstream that was lost under it."""


class Recovery:
    """The replacement of one lost upstream; `run` returns when it is decided."""

    def __init__(self, kept: Kept, *, backoff: Backoff, waits_first: bool) -> None:
        self._kept = kept
        self._backoff = backoff
        self._waits_first = waits_first
        self._last_reason: PinReason | None = None
        self._limit: asyncio.Timeout | None = None
        self._hurry = asyncio.Event()

    def client_waits(self) -> None:
        """Learn that the client said something: from now on time is limited."""
        if not self._hurry.is_set():
            self._hurry.set()
            if self._limit is not None:
                now = asyncio.get_running_loop().time()
                self._limit.reschedule(now + BUDGET_SECONDS)

    async def run(self) -> DsqlProxyError | None:
        """Replace the upstream; give the reason where that is not to be had."""
        kept = self._kept
        began_at = kept.services.clock()
        no_try = SwapError("there was no time to try")
        failure: DsqlProxyError = no_try
        try:
            async with asyncio.timeout(None) as self._limit:
                if kept.relay.is_client_waiting:
                    self.client_waits()
                if self._waits_first:
                    await self._wait()
                while kept.relay.state is RelayState.PAUSED:
                    try:
                        await self._try()
                    except DsqlProxyError as error:
                        failure = error
                        kept.report.not_recovered_yet(error)
                        if self._is_final(error):
                            break
                        await self._wait()
                    else:
                        kept.report.recovered(kept.services.clock() - began_at)
                        return None
        except TimeoutError:
            if failure is no_try and kept.services.limiter.crowded_by is not None:
                failure = SwapError("the cluster takes no logins at the moment")
        if kept.relay.state is RelayState.PAUSED:  # else the session has ended
            kept.report.recovery_failed(failure)
        return failure

    async def _try(self) -> None:
        """Open an upstream, tell it what the session had, and go on with it."""
        kept = self._kept
        async with kept.services.limiter.login():
            new = await kept.open_upstream()
        try:
            replica = Replica(kept.memory)
            await tell(new.channel, replica, replica.baseline(new.parameters))
            await tell(new.channel, replica, replica.early())
            await tell(new.channel, replica, replica.restoration())
            changed = replica.verified()
            kept.adopt(new, replica, changed)
        except BaseException:
            new.channel.abort()
            raise

    def _is_final(self, error: DsqlProxyError) -> bool:
        """Say if trying again is of no use: the cluster knows us and says no.

        Or a new upstream could not be made equal, twice for the same reason.
        """
        if isinstance(error, NotCarriedOver) and error.reason is not None:
            last, self._last_reason = self._last_reason, error.reason
            return last is error.reason
        if not isinstance(error, UpstreamRejected):
            return False
        # A clock that is wrong may be set right, and credentials renewed.
        cause = cause_of(error)
        may_pass = (Cause.SIGNATURE_EXPIRED, Cause.CREDENTIALS_REFUSED)
        is_final = cause.is_about_the_token or cause is Cause.UNKNOWN_CLUSTER
        return is_final and cause not in may_pass

    async def _wait(self) -> None:
        """Wait before the next try; a client that begins to wait cuts it short."""
        delay = self._backoff.next_delay()
        if self._hurry.is_set():
            await asyncio.sleep(delay)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._hurry.wait()
