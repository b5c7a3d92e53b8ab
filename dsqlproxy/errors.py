"""Every exception of the proxy and the SQLSTATE that a client sees for it.

::

    DsqlProxyError            XX000    never expected; a bug if a client sees it
    ├── ConfigError           -        exit 2 at start, with every problem's key path
    ├── ProtocolError         08P01    a peer broke the protocol
    ├── ConnectionLost        08006    .peer: the client or the upstream went away
    │   └── OutcomeUnknown    08007    ... and a commit may or may not have happened
    ├── UpstreamUnavailable   08001    DNS, TCP, TLS, time-out: no way to the cluster
    ├── UpstreamRejected      as sent  the cluster's ErrorResponse, a token cut out
    ├── TokenError            28000    no credentials, or signing failed
    ├── RoleNotAllowed        28000    no user named, or one outside `roles`
    ├── MessageTooLarge       54000    over the cluster's limit for one message
    ├── TooManyConnections    53300    the proxy's own limit
    ├── ShuttingDown          57P01    the proxy ends
    ├── SessionLimitReached   57P01    the cluster's limit, and no other upstream
    └── SwapError             -        a swap was abandoned; the session goes on

This module knows nothing of the rest: it can be imported from everywhere.
An exception answers three questions: which peer, what happened, and what the
client may see; foreign exception text never goes into ``message``.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import ClassVar


class Peer(StrEnum):
    """Either end of a session."""

    CLIENT = "client"
    UPSTREAM = "upstream"


class DsqlProxyError(Exception):
    """The root of the tree; ``message``, ``detail`` and ``hint`` are for the client."""

    sqlstate: ClassVar[str] = "XX000"

    def __init__(self, message: str, *, detail: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.hint = hint

    def __str__(self) -> str:
        """Give message, detail and hint in one line, for logs and terminals."""
        return ". ".join(
            part.rstrip(".") for part in (self.message, self.detail, self.hint) if part
        )


class ConfigError(DsqlProxyError):
    """The configuration cannot be used; ``problems`` names each with its path."""

    def __init__(self, problems: Iterable[str], *, source: str = "") -> None:
        self.problems = tuple(problems)
        self.source = source
        super().__init__("; ".join(self.problems))


class ProtocolError(DsqlProxyError):
    """A peer sent what the protocol does not allow."""

    sqlstate = "08P01"


class ConnectionLost(DsqlProxyError):
    """A peer went away in the middle of a session."""

    sqlstate = "08006"

    def __init__(
        self, message: str, *, peer: Peer, detail: str = "", hint: str = ""
    ) -> None:
        super().__init__(message, detail=detail, hint=hint)
        self.peer = peer


class OutcomeUnknown(ConnectionLost):
    """The upstream went away when a commit may have been under way."""

    sqlstate = "08007"


class UpstreamUnavailable(DsqlProxyError):
    """The cluster could not be reached: DNS, TCP, TLS or time-out."""

    sqlstate = "08001"


class UpstreamRejected(DsqlProxyError):
    """The cluster refused the login; ``fields`` is its ErrorResponse as sent."""

    def __init__(
        self,
        message: str,
        *,
        fields: tuple[tuple[str, str], ...],
        detail: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message, detail=detail, hint=hint)
        self.fields = fields


class TokenError(DsqlProxyError):
    """No credentials, or signing a token failed.

    ``may_pass``: whether a change outside of the proxy (a login, a file, the network)
    can mend it, so that a client may wait for it.
    """

    sqlstate = "28000"

    def __init__(
        self, message: str, *, detail: str = "", hint: str = "", may_pass: bool = True
    ) -> None:
        super().__init__(message, detail=detail, hint=hint)
        self.may_pass = may_pass


class RoleNotAllowed(DsqlProxyError):
    """The client named no user, or one that this listener does not serve."""

    sqlstate = "28000"


class MessageTooLarge(DsqlProxyError):
    """A client's message is over the cluster's limit for one message."""

    sqlstate = "54000"


class TooManyConnections(DsqlProxyError):
    """The proxy's own limit is reached."""

    sqlstate = "53300"


class ShuttingDown(DsqlProxyError):
    """The proxy ends and takes the session with it."""

    sqlstate = "57P01"


class SessionLimitReached(DsqlProxyError):
    """The session is as old as the cluster lets one be, and could not be swapped."""

    sqlstate = "57P01"


class SwapError(DsqlProxyError):
    """A swap was abandoned; the session goes on with the upstream that it has."""
