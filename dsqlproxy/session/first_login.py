"""The first upstream of a session: the login while its client waits.

A client is held, not refused, for what will be mended: it has its AuthenticationOk,
is told by a NoticeResponse why it waits, and goes on as soon as it can. `Patience`
says for what, and for how long.
"""

import asyncio
import contextlib

from dsqlproxy.channel.channel import Channel
from dsqlproxy.errors import DsqlProxyError, UpstreamRejected
from dsqlproxy.session.last_words import remark
from dsqlproxy.session.patience import Patience, Remedy, was_held_for
from dsqlproxy.session.report import Report
from dsqlproxy.session.services import Services
from dsqlproxy.situations.cluster import Cause
from dsqlproxy.situations.holding import (
    Remark,
    gave_up,
    held_for_cluster,
    held_for_credentials,
    held_for_source,
    held_for_turn,
    with_limit,
)
from dsqlproxy.upstream.connector import Upstream, UpstreamStartup

UNHELD_SECONDS = 8.0
"""What a client that is not to be held waits for a fetch that is under way."""

INSTANT_SECONDS = 1.0
"""Who waits longer than this for credentials is told so; most never do."""


class FirstLogin:
    """The login while the client waits; who waits no more ends it (`abandon`)."""

    def __init__(self, client: Channel, services: Services, report: Report) -> None:
        self._client = client
        self._services = services
        self._report = report
        self._limit: asyncio.Timeout | None = None
        self._is_abandoned = False
        self._has_client_left = False
        self._said = ""
        self._held_for: DsqlProxyError | None = None

    @property
    def held_for(self) -> str:
        """Why the client waits, as it was told; empty while it need not."""
        return self._said if self._limit is not None else ""

    async def run(self, startup: UpstreamStartup) -> Upstream | None:
        """Open the upstream; None when meanwhile the client left, or was to leave."""
        try:
            async with asyncio.timeout(None) as self._limit:
                self._client.when_ended(self._client_ended)
                if self._is_abandoned:
                    self.abandon()
                return await self._open(startup)
        except TimeoutError:
            if self._said and self._has_client_left:
                self._report.left_while_held(self._said)
            return None
        finally:
            self._client.when_ended(None)
            self._limit = None
            if self._said:
                self._report.released()

    def abandon(self) -> None:
        """Give the login up, whether it has begun or not."""
        self._is_abandoned = True
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time())

    async def _open(self, startup: UpstreamStartup) -> Upstream:
        """Try until there is an upstream, or an error that stays."""
        services = self._services
        clock = services.clock
        patience = Patience(services.config.hold_timeout, now=clock())
        while True:
            try:
                await self._credentials_ready(patience)
                async with services.limiter.login(
                    within=patience.seconds_left(clock()), on_wait=self._must_wait
                ):
                    return await services.connector.open(startup)
            except DsqlProxyError as error:
                self._report.not_connected(error)
                match patience.remedy(error, clock()):
                    case Remedy.CREDENTIALS:
                        self._note_cause(error)
                        self._say(held_for_credentials(error))
                        await self._await_credentials(patience)
                    case Remedy.TIME:
                        # The limiter knows when, and tells who has to wait.
                        self._note_cause(error)
                    case Remedy.NEW_TOKEN:
                        pass
                    case Remedy.NONE:
                        raise self._final(error, patience) from None

    def _final(self, error: DsqlProxyError, patience: Patience) -> DsqlProxyError:
        """Give the error to end with; who was held for it, is told for how long."""
        if self._held_for is not None and was_held_for(error):
            error = self._held_for
        if self._said and was_held_for(error):
            return gave_up(error, seconds=patience.seconds_held(self._services.clock()))
        return error

    def _note_cause(self, error: DsqlProxyError) -> None:
        """Remember what to tell in the end: what the cluster itself said goes first.

        After it come only ours: no turn in time, no credentials but the refused ones.
        """
        if not isinstance(self._held_for, UpstreamRejected):
            self._held_for = error

    async def _credentials_ready(self, patience: Patience) -> None:
        """Wait for credentials that are being fetched, before anything is opened.

        Who is not to be held waits all the same: they are asked for just now.
        """
        services = self._services
        within = UNHELD_SECONDS
        if services.config.hold_timeout:
            within = patience.seconds_left(services.clock())
        telling = asyncio.get_running_loop().call_later(
            INSTANT_SECONDS, self._say, held_for_source()
        )
        try:
            await services.credentials.ready(within=within)
        finally:
            telling.cancel()

    async def _await_credentials(self, patience: Patience) -> None:
        """Wait until there are others, or the client was held for long enough."""
        left = patience.seconds_left(self._services.clock())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left):
                await asyncio.sleep(patience.next_delay())
                await self._services.credentials.changed()

    def _must_wait(self, cause: Cause | None) -> None:
        """Learn from the limiter that the turn does not come at once."""
        self._say(held_for_turn() if cause is None else held_for_cluster(cause))

    def _say(self, what: Remark) -> None:
        """Tell the client why it waits, once for each reason."""
        limit = self._services.config.hold_timeout
        if what.message == self._said or not limit:
            return
        is_first, self._said = not self._said, what.message
        self._client.write(remark(with_limit(what, limit)).encode())
        self._report.held(what, is_first=is_first)

    def _client_ended(self) -> None:
        # Who has sent requests and then the end of its stream may wait for the
        # answers; who has sent nothing (pg_isready) wants none.
        if self._client.is_lost or not self._client.has_unread:
            self._has_client_left = True
            self.abandon()
