"""IAM authentication tokens, and the credentials of one identity that sign them.

A token is a URL signed with SigV4 that a cluster takes as a password. One is signed
for each upstream login and none is kept: the cluster looks at it at connect only
(AWS documentation, "Generating an authentication token").

Signing is local and takes a fifth of a millisecond; finding credentials may read
files, run programs or ask AWS. Each happens on threads of its own, so that a source
that hangs holds up no login that can be signed with what is held.
"""

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

from dsqlproxy.aws import chain
from dsqlproxy.aws.credentials import Credentials, Identity
from dsqlproxy.aws.events import CredentialEvents, NobodyToTell
from dsqlproxy.aws.files import FileMemory, Fingerprint, fingerprint, no_files
from dsqlproxy.aws.flight import Flights
from dsqlproxy.aws.keyring import Keyring
from dsqlproxy.aws.secret import Secret
from dsqlproxy.aws.signer import Signer
from dsqlproxy.aws.workers import Workers
from dsqlproxy.clocks import Clocks
from dsqlproxy.dsql import MAX_TOKEN_LIFETIME_SECONDS, MIN_TOKEN_LIFETIME_SECONDS
from dsqlproxy.errors import TokenError
from dsqlproxy.situations.cluster import Cause
from dsqlproxy.situations.credentials import (
    expired_when_fetched,
    explain,
    too_many_hang,
    too_slow,
)
from dsqlproxy.situations.sessions import shutting_down
from dsqlproxy.situations.signing import (
    lifetime_out_of_range,
    not_signed,
    request_incomplete,
)

WAIT_SECONDS: Final = 8.0
"""For whoever needs a token: less than the default connect_timeout, so that the error
that names the credentials comes before the one that only knows that time ran out."""

HANGING_SECONDS: Final = 30.0
"""A fetch that takes longer is given up, and its thread with it: nothing ends a
``credential_process`` that hangs."""

MAX_HANGING: Final = 4

LOOK_SECONDS: Final = 1.0
"""How often `TokenSource.keep` looks at files and clocks."""

FRESH_SECONDS: Final = 1.0
"""A failure that is older than this is worth another try by whoever needs a token."""


@dataclass(frozen=True, slots=True)
class SigningRequest:
    """For which cluster, database role and span a token is wanted."""

    host: str
    region: str
    role: str
    lifetime_seconds: int

    def __post_init__(self) -> None:
        shortest, longest = MIN_TOKEN_LIFETIME_SECONDS, MAX_TOKEN_LIFETIME_SECONDS
        if not shortest <= self.lifetime_seconds <= longest:
            raise lifetime_out_of_range(self.lifetime_seconds)
        if not (self.host and self.region and self.role):
            raise request_incomplete()


class Token:
    """A signed token. Printing it shows what it is for; `reveal` gives its value.

    ``signed_by`` are the credentials that a refusal of the token speaks of.
    """

    __slots__ = ("_value", "lifetime_seconds", "role", "signed_by")

    def __init__(
        self,
        value: Secret | str,
        *,
        role: str,
        lifetime_seconds: int,
        signed_by: Credentials | None = None,
    ) -> None:
        self._value = value if isinstance(value, Secret) else Secret(value)
        self.role = role
        self.lifetime_seconds = lifetime_seconds
        self.signed_by = signed_by

    def reveal(self) -> str:
        """Give the value, to be sent to the cluster and nowhere else."""
        return self._value.reveal()

    def __repr__(self) -> str:
        return f"<token for role {self.role}, {self.lifetime_seconds} s>"

    def __reduce__(self) -> str:
        # A pickle is a print by another name.
        raise TypeError("a token cannot be pickled")


class _Fetched(NamedTuple):
    """What a fetch found, and how the files were when it began and ended."""

    before: Fingerprint
    outcome: Credentials | TokenError
    after: Fingerprint


class TokenSource:
    """Signs tokens for one AWS identity; whoever makes it calls `close`.

    It fetches credentials when they are needed; while somebody runs `keep` also
    ahead of need. Fetches are made one at a time, whoever asks, and while they fail
    signing goes on with what is held and valid. ``region`` is where STS is asked.
    What it is made with from ``fetch`` on is for tests.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        region: str,
        clocks: Clocks,
        events: CredentialEvents | None = None,
        random: Callable[[], float] = random.random,
        wait_seconds: float = WAIT_SECONDS,
        fetch: Callable[[Identity, str], Credentials] = chain.fetch,
        look_at_files: Callable[[], Fingerprint] = fingerprint,
        hanging_seconds: float = HANGING_SECONDS,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._identity = identity
        self._region = region
        self._clocks = clocks
        self._events = events or NobodyToTell()
        self._wait_seconds = wait_seconds
        self._fetch = fetch
        # Given credentials have nothing to do with the user's files.
        is_given = identity.given is not None
        self._look_at_files = no_files if is_given else look_at_files
        self._hanging_seconds = hanging_seconds
        self._look_seconds = look_seconds
        self._origin = chain.origin_of(identity)
        self._keyring = Keyring(self._origin, random=random)
        self._flights = Flights(
            self._fetch_now,
            on_end=self._fetch_ended,
            on_late=self._fetch_ended_late,
            limit_seconds=hanging_seconds,
            max_hanging=MAX_HANGING,
        )
        self._signing_thread = Workers(1, name="token")
        self._signers: dict[str, Signer] = {}
        self._lookers = Workers(1, name="aws-files")
        self._changed = asyncio.Event()
        self._files = FileMemory()
        self._looking: Future[Fingerprint] | None = None
        self._fetches = 0
        self._is_kept = False
        self._closed = False

    # -- for logins ----------------------------------------------------------------

    async def sign(self, request: SigningRequest) -> Token:
        """Sign a token; `TokenError` says which credentials were tried and why not.

        It lives as long as was asked, or as the credentials have left if that is
        less: the cluster refuses one that outlives them, and names another reason.
        """
        credentials = await self.current()
        try:
            async with asyncio.timeout(self._wait_seconds):
                return await self._signing_thread.run(
                    partial(self._sign, credentials, request)
                )
        except TimeoutError:
            raise too_slow(self._wait_seconds, self._origin) from None

    async def current(self) -> Credentials:
        """Give the credentials to sign with; wait for a fetch if there are none."""
        try:
            async with asyncio.timeout(self._wait_seconds):
                return await self._find()
        except TimeoutError:
            raise too_slow(self._wait_seconds, self._origin) from None

    @property
    def failure(self) -> TokenError | None:
        """Why nothing can be signed, as of now; None while something can, or may.

        Where nobody runs `keep`, a failure is forgotten after a second: the next
        `sign` is then the only one to find out whether it has passed.
        """
        if not (self._is_kept or self._has_tried()):
            return None
        return self._keyring.failure(self._clocks.read())

    async def changed(self) -> None:
        """Wait until there are credentials to sign with, or other ones.

        Returns at once if there are some now; who waits has them looked for.
        """
        if self._keyring.usable(self._clocks.read()) is not None or self._closed:
            return
        if not self._has_tried():
            self._begin()
        await self._changed.wait()

    def note_refused(self, token: Token, cause: Cause) -> None:
        """Learn that the cluster refused a token, for a cause that is about it.

        Credentials that it does not know any more are put aside. The other causes
        may be the credentials' too (an identity that was just changed), so others
        are looked for, but what is held goes on signing.
        """
        if token.signed_by is None or self._closed:
            return
        now = self._clocks.read()
        if cause is Cause.CREDENTIALS_REFUSED:
            is_new = self._keyring.put_aside(token.signed_by, now)
            self._tell()
        else:
            is_new = self._keyring.ask(token.signed_by, now)
        if is_new:
            self._begin()

    def close(self) -> None:
        """Let the threads end; waits for none of them."""
        self._closed = True
        self._flights.close()
        self._signing_thread.close()
        self._lookers.close()
        self._changed.set()

    # -- ahead of need -------------------------------------------------------------

    async def keep(self) -> None:
        """Have credentials at all times, until cancelled.

        Looks once a second whether it is time to fetch: ahead of their expiry, after
        a failure by a back-off, and at once when a file changed or this machine woke.
        """
        self._is_kept = True
        read_at = self._clocks.read()
        try:
            while not self._closed:
                await self._look()
                now = self._clocks.read()
                if now.has_jumped_since(read_at):
                    self._keyring.note_jump(now)
                read_at = now
                if self._keyring.is_due(now):
                    self._begin()
                await asyncio.sleep(self._look_seconds)
        finally:
            self._is_kept = False

    async def _look(self) -> None:
        """Look at the files, unless a fetch or an earlier look still does that."""
        is_looking = self._looking is not None and self._looking.running()
        if self._flights.is_under_way or is_looking:
            return
        fetches = self._fetches
        self._looking = self._lookers.submit(self._look_at_files)
        try:
            # A home directory on a network file system hangs when that does.
            async with asyncio.timeout(self._look_seconds):
                found = await asyncio.wrap_future(self._looking)
        except TimeoutError:
            return
        # A fetch that was begun meanwhile has looked later.
        if self._fetches == fetches and self._files.note_look(found):
            self._keyring.hurry()

    # -- fetching ------------------------------------------------------------------

    async def _find(self) -> Credentials:
        """Give what is usable; join the fetch that is under way, or begin one."""
        while True:
            if self._closed:
                raise shutting_down()
            now = self._clocks.read()
            held = self._keyring.usable(now)
            if held is not None:
                return held
            if not self._flights.is_under_way:
                if self._has_tried() and (failure := self._keyring.failure(now)):
                    raise failure
                self._begin()
            await self._flights.wait()

    def _has_tried(self) -> bool:
        """Whether a fetch has ended so recently that another would tell nothing."""
        now = self._clocks.monotonic()
        return self._keyring.has_tried_since(now - FRESH_SECONDS)

    def _begin(self) -> None:
        """Fetch, if nobody does."""
        if not self._flights.is_under_way:
            self._fetches += 1
            self._keyring.note_begun()
            self._flights.begin()

    def _fetch_now(self) -> _Fetched:
        """Fetch, on a thread."""
        before = self._look_at_files()
        outcome: Credentials | TokenError
        try:
            outcome = self._fetch(self._identity, self._region)
        except TokenError as error:
            outcome = error
        return _Fetched(before, outcome, self._look_at_files())

    def _fetch_ended(self, end: _Fetched | Exception) -> None:
        """Take the end of a fetch, on the event loop."""
        if isinstance(end, _Fetched):
            outcome = end.outcome
            has_found = isinstance(outcome, Credentials)
            self._files.note_fetch(end.before, end.after, has_found=has_found)
        else:
            outcome = self._told(end)
        if isinstance(outcome, Credentials):
            self._take(outcome)
        else:
            self._keyring.note_failed(outcome, self._clocks.read())
        self._tell()

    def _fetch_ended_late(self, end: _Fetched) -> None:
        """Take what a fetch that was given up brings, if there is nothing else."""
        is_wanted = self._keyring.usable(self._clocks.read()) is None
        if is_wanted and isinstance(end.outcome, Credentials):
            self._take(end.outcome)
            self._tell()

    def _take(self, found: Credentials) -> None:
        if self._keyring.note_fetched(found, self._clocks.read()):
            self._changed.set()
            self._changed = asyncio.Event()

    def _told(self, error: Exception) -> TokenError:
        match error:
            case TimeoutError():
                return too_slow(self._hanging_seconds, self._origin)
            case BlockingIOError():
                return too_many_hang(MAX_HANGING, self._origin)
            case _:
                return explain(error, self._origin)

    def _tell(self) -> None:
        now = self._clocks.wall()
        if (held := self._keyring.news()) is not None:
            left = None if held.expires_at is None else held.seconds_left(now)
            self._events.credentials_changed(held, expires_in=left)
        if (trouble := self._keyring.bad_news()) is not None:
            self._events.credentials_failed(trouble)

    # -- signing -------------------------------------------------------------------

    def _sign(self, credentials: Credentials, request: SigningRequest) -> Token:
        """Sign, on a thread."""
        left = credentials.seconds_left(self._clocks.wall())
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
        """Give the Region's signer for these very credentials; on the one thread."""
        kept = self._signers.get(region)
        if kept is None or kept.credentials is not credentials:
            kept = self._signers[region] = Signer(credentials, region)
        return kept
