"""A token source as one cluster sees it.

The credentials of an identity are one, its clusters may be several, and each has a
mind of its own about them: a key that one account's cluster does not know is good at
another's. So a refusal blocks signing for the cluster that refused, and no other.
"""

from typing import Protocol

from dsqlproxy.aws.token import SigningRequest, Token
from dsqlproxy.errors import TokenError
from dsqlproxy.situations.cluster import Cause


class SharedSource(Protocol):
    """What is asked of a `TokenSource`; ``host`` says for which cluster."""

    async def sign(self, request: SigningRequest) -> Token:
        """Sign a token for the cluster of the request."""

    def failure_for(self, host: str) -> TokenError | None:
        """Say why nothing can be signed for a cluster."""

    async def changed_for(self, host: str) -> None:
        """Wait until something can be signed for a cluster."""

    async def ready_for(self, host: str, *, within: float) -> None:
        """Wait for what the source finds for a cluster."""

    def note_refused_by(self, host: str, token: Token, cause: Cause) -> None:
        """Learn that a cluster refused a token."""

    def note_accepted_by(self, host: str, token: Token) -> None:
        """Learn that a cluster took a token."""


class ClusterTokens:
    """The tokens for the cluster ``host``; the source belongs to somebody else."""

    def __init__(self, source: SharedSource, host: str) -> None:
        self._source = source
        self._host = host

    async def sign(self, request: SigningRequest) -> Token:
        """Sign a token; `TokenError` says which credentials were tried and why not."""
        return await self._source.sign(request)

    @property
    def failure(self) -> TokenError | None:
        """Why nothing can be signed, as of now; None while something can, or may."""
        return self._source.failure_for(self._host)

    async def changed(self) -> None:
        """Wait until there is something to sign with; who waits has it looked for."""
        await self._source.changed_for(self._host)

    async def ready(self, *, within: float) -> None:
        """Return when there is something to sign with; join or begin a fetch.

        Raises the `TokenError` that is known once a fetch has failed, or that
        ``within`` seconds were too few for one.
        """
        await self._source.ready_for(self._host, within=within)

    def note_refused(self, token: Token, cause: Cause) -> None:
        """Learn that the cluster refused a token, for a cause that is about it."""
        self._source.note_refused_by(self._host, token, cause)

    def note_accepted(self, token: Token) -> None:
        """Learn that the cluster took a token: its refusals are forgotten."""
        self._source.note_accepted_by(self._host, token)
