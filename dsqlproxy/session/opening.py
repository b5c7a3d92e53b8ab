"""The first upstream of a session: as whom, whether there is a place, the login."""

import asyncio

from dsqlproxy.channel.channel import Channel
from dsqlproxy.config import ListenerConfig
from dsqlproxy.errors import RoleNotAllowed, TooManyConnections
from dsqlproxy.listen.admission import Admitted
from dsqlproxy.session.services import Services
from dsqlproxy.upstream.connector import Upstream, UpstreamStartup


def choose_role(admitted: Admitted, config: ListenerConfig) -> str:
    """Say as whom a session logs in; `RoleNotAllowed` names who would do."""
    user = admitted.startup.get("user")
    allowed = (config.role,) if config.role else config.roles
    hint = f"Connect as {' or '.join(allowed)}." if allowed else ""
    if not user:
        message = "no PostgreSQL user name specified in startup packet"
        raise RoleNotAllowed(message, hint=hint or "Set a user name, such as admin.")
    if config.role:
        return config.role
    if config.roles and user not in config.roles:
        message = f'role "{user}" is not served by this listener'
        raise RoleNotAllowed(message, hint=hint)
    return user


def refuse_if_full(services: Services) -> None:
    """Raise `TooManyConnections` if the listener has as many sessions as it may."""
    limit = services.config.max_sessions
    if len(services.admitted) >= limit:
        raise TooManyConnections(
            "dsqlproxy has too many sessions on this listener",
            detail=f"The limit is {limit}.",
            hint="Close some, or raise max_sessions.",
        )


class FirstLogin:
    """The login while the client waits; who waits no more ends it (`abandon`)."""

    def __init__(self, client: Channel, services: Services) -> None:
        self._client = client
        self._services = services
        self._limit: asyncio.Timeout | None = None
        self._is_abandoned = False

    async def run(self, startup: UpstreamStartup) -> Upstream | None:
        """Open the upstream; None when meanwhile the client left, or was to leave."""
        services = self._services
        try:
            async with asyncio.timeout(None) as self._limit:
                self._client.when_ended(self._client_ended)
                if self._is_abandoned:
                    self.abandon()
                async with services.limiter.login():
                    return await services.connector.open(startup)
        except TimeoutError:
            return None
        finally:
            self._client.when_ended(None)
            self._limit = None

    def abandon(self) -> None:
        """Give the login up, whether it has begun or not."""
        self._is_abandoned = True
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time())

    def _client_ended(self) -> None:
        # Who has sent requests and then the end of its stream may wait for the
        # answers; who has sent nothing (pg_isready) wants none.
        if self._client.is_lost or not self._client.has_unread:
            self.abandon()
