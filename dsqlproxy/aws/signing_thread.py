"""Signs tokens on a thread of its own, so that no fetch that hangs holds it up."""

import asyncio
from collections.abc import Callable
from functools import partial

from dsqlproxy.aws.credentials import Credentials
from dsqlproxy.aws.signer import Signer
from dsqlproxy.aws.token import SigningRequest, Token
from dsqlproxy.aws.workers import NoThreadError, Workers
from dsqlproxy.dsql import MIN_TOKEN_LIFETIME_SECONDS
from dsqlproxy.situations.credentials import (
    CredentialOrigin,
    expired_when_fetched,
    explain,
)
from dsqlproxy.situations.signing import not_signed


class SigningThread:
    """Signs with whatever credentials it is given; whoever makes it calls `close`.

    ``wall`` is the wall clock, ``origin`` where the credentials come from.
    """

    def __init__(self, origin: CredentialOrigin, *, wall: Callable[[], float]) -> None:
        self._origin = origin
        self._wall = wall
        self._worker = Workers(1, name="token")
        self._signers: dict[str, Signer] = {}

    async def sign(self, credentials: Credentials, request: SigningRequest) -> Token:
        """Sign a token that lives no longer than what signs it; or `TokenError`."""
        try:
            signing = self._worker.submit(partial(self._sign, credentials, request))
        except NoThreadError as error:
            raise explain(error, self._origin) from None
        return await asyncio.wrap_future(signing)

    def close(self) -> None:
        """Let the thread end; does not wait for it."""
        self._worker.close()

    def _sign(self, credentials: Credentials, request: SigningRequest) -> Token:
        """Sign, on the thread."""
        left = credentials.seconds_left(self._wall())
        lifetime_seconds = int(min(request.lifetime_seconds, left))
        if lifetime_seconds < MIN_TOKEN_LIFETIME_SECONDS:
            raise expired_when_fetched(self._origin)
        try:
            value = self._signer(credentials, request.region).sign(
                host=request.host, role=request.role, lifetime_seconds=lifetime_seconds
            )
        except Exception as error:  # noqa: BLE001 - botocore raises from all trees
            raise not_signed(error, self._origin) from None
        return Token(
            value,
            role=request.role,
            lifetime_seconds=lifetime_seconds,
            signed_by=credentials,
        )

    def _signer(self, credentials: Credentials, region: str) -> Signer:
        """Give the Region's signer for these very credentials."""
        kept = self._signers.get(region)
        if kept is None or kept.credentials is not credentials:
            kept = self._signers[region] = Signer(credentials, region)
        return kept
