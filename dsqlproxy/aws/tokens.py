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
import signal
from collections.abc import Callable
from typing import Final, NamedTuple

from dsqlproxy.aws import chain
from dsqlproxy.aws.cluster_tokens import ClusterTokens
from dsqlproxy.aws.credentials import Credentials, Identity
from dsqlproxy.aws.events import CredentialEvents, NobodyToTell
from dsqlproxy.aws.file_watch import FileWatch
from dsqlproxy.aws.files import Fingerprint, fingerprint, no_files
from dsqlproxy.aws.flight import Flights
from dsqlproxy.aws.keyring import Keyring
from dsqlproxy.aws.programs import Programs
from dsqlproxy.aws.signing_thread import SigningThread
from dsqlproxy.aws.token import SigningRequest, Token
from dsqlproxy.clocks import Clocks
from dsqlproxy.errors import TokenError
from dsqlproxy.situations.cluster import Cause
from dsqlproxy.situations.credentials import explain, too_many_hang, too_slow
from dsqlproxy.situations.sessions import shutting_down

__all__ = ["SigningRequest", "Token", "TokenSource"]

WAIT_SECONDS: Final = 8.0
"""For whoever needs a token: less than the default connect_timeout, so that the error
that names the credentials comes before the one that only knows that time ran out."""

HANGING_SECONDS: Final = 30.0
"""A fetch that takes longer is given up, and a ``credential_process`` is killed; what
else hangs keeps its thread."""

MAX_HANGING: Final = 4

LOOK_SECONDS: Final = 1.0
"""How often `TokenSource.keep` looks at files and clocks."""

FRESH_SECONDS: Final = 1.0
"""A failure that is older than this is worth another try by whoever needs a token."""


Fetch = Callable[[Identity, str, Programs], Credentials]
"""Finds the credentials of an identity, asking STS in a Region; blocks."""


class _Fetched(NamedTuple):
    """What a fetch found, and how the files were when it began and ended."""

    before: Fingerprint | None
    outcome: Credentials | TokenError
    after: Fingerprint | None


class TokenSource:
    """Signs tokens for one AWS identity; whoever makes it calls `close`.

    It fetches credentials when they are needed; while somebody runs `keep` also
    ahead of need. Fetches are made one at a time, whoever asks, and while they fail
    signing goes on with what is held and valid. ``region`` is where STS is asked.
    What it is made with from ``fetch`` on is for tests. `for_cluster` gives each
    cluster's view of it: what one refuses, others may take.
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
        fetch: Fetch = chain.fetch,
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
        self._watch = FileWatch(self._look_at_files, seconds=look_seconds)
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
        self._programs: set[Programs] = set()
        self._signing_thread = SigningThread(self._origin, wall=clocks.wall)
        self._changed = asyncio.Event()
        self._watch_trouble = ""
        self._is_kept = False
        self._closed = False

    # -- for logins ----------------------------------------------------------------

    def for_cluster(self, host: str) -> ClusterTokens:
        """Give the source as a cluster sees it."""
        return ClusterTokens(self, host)

    async def sign(self, request: SigningRequest) -> Token:
        """Sign a token; `TokenError` says which credentials were tried and why not.

        It lives as long as was asked, or as the credentials have left if that is
        less: the cluster refuses one that outlives them, and names another reason.
        """
        credentials = await self._find(request.host, within=self._wait_seconds)
        try:
            async with asyncio.timeout(self._wait_seconds):
                return await self._signing_thread.sign(credentials, request)
        except TimeoutError:
            raise too_slow(self._wait_seconds, self._origin) from None

    async def current(self) -> Credentials:
        """Give the credentials to sign with; wait for a fetch if there are none."""
        return await self._find(None, within=self._wait_seconds)

    @property
    def failure(self) -> TokenError | None:
        """Why nothing can be signed for any cluster; None while something can."""
        return self.failure_for(None)

    def failure_for(self, host: str | None) -> TokenError | None:
        """Say why nothing can be signed, as of now; None while something can, or may.

        Where nobody runs `keep`, a failure is forgotten after a second: the next
        `sign` is then the only one to find out whether it has passed.
        """
        if not (self._is_kept or self._has_tried()):
            return None
        return self._keyring.failure(self._clocks.read(), host)

    async def ready_for(self, host: str | None, *, within: float) -> None:
        """Return when there is something to sign with; join or begin a fetch.

        Raises the `TokenError` that is known once a fetch has failed, or `too_slow`.
        """
        await self._find(host, within=within)

    async def changed_for(self, host: str | None) -> None:
        """Wait until there are credentials to sign with.

        Returns at once if there are some now; who waits has them looked for.
        """
        while not (self._closed or self._keyring.usable(self._clocks.read(), host)):
            if not self._has_tried():
                self._begin()
            await self._changed.wait()

    def note_refused_by(self, host: str, token: Token, cause: Cause) -> None:
        """Learn that a cluster refused a token, for a cause that is about it.

        Credentials that it does not know any more are put aside, for this cluster.
        The other causes may be the credentials' too (an identity that was just
        changed), so others are looked for, but what is held goes on signing.
        """
        if token.signed_by is None or self._closed:
            return
        now = self._clocks.read()
        if cause is Cause.CREDENTIALS_REFUSED:
            is_new = self._keyring.put_aside(token.signed_by, now, host)
            self._tell()
        else:
            is_new = self._keyring.ask(token.signed_by, now)
        if is_new:
            self._begin()

    def note_accepted_by(self, host: str, token: Token) -> None:
        """Learn that a cluster took a token: its refusals are forgotten."""
        credentials = token.signed_by
        if credentials and self._keyring.note_accepted(credentials, host):
            self._wake()

    def close(self) -> None:
        """Let threads and programs end; waits for none of them."""
        self._closed = True
        self._flights.close()
        self._end_programs(signal.SIGTERM)
        self._signing_thread.close()
        self._watch.close()
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
                if self._keyring.end_asides(now):
                    self._wake()
                if self._keyring.is_due(now):
                    self._begin()
                await asyncio.sleep(self._look_seconds)
        finally:
            self._is_kept = False

    async def _look(self) -> None:
        """Look at the files, unless a fetch does that.

        Whatever goes wrong, credentials must be renewed all the same: there may be no
        thread to be had, or a path that the system does not take.
        """
        if self._flights.is_under_way:
            return
        try:
            if await self._watch.has_changed():
                self._keyring.hurry()
        except Exception as error:  # noqa: BLE001 - see above
            trouble = repr(error)
            if trouble != self._watch_trouble:
                self._watch_trouble = trouble
                self._events.watch_failed(error)

    # -- fetching ------------------------------------------------------------------

    async def _find(self, host: str | None, *, within: float) -> Credentials:
        """Give what is usable; join the fetch that is under way, or begin one."""
        try:
            async with asyncio.timeout(within):
                while True:
                    found = self._found(host)
                    if found is not None:
                        return found
                    await self._flights.wait()
        except TimeoutError:
            # Where a fetch has said what is missing, that is what to tell, not that
            # the next one was not waited for.
            known = self._keyring.failure(self._clocks.read(), host)
            raise known or too_slow(within, self._origin) from None

    def _found(self, host: str | None) -> Credentials | None:
        """Give what is usable, or see that a fetch is under way."""
        if self._closed:
            raise shutting_down()
        now = self._clocks.read()
        held = self._keyring.usable(now, host)
        if held is None and not self._flights.is_under_way:
            failure = self._keyring.failure(now, host)
            if failure is not None and self._has_tried():
                raise failure
            self._begin()
        return held

    def _has_tried(self) -> bool:
        """Whether a fetch has ended so recently that another would tell nothing."""
        now = self._clocks.monotonic()
        return self._keyring.has_tried_since(now - FRESH_SECONDS)

    def _begin(self) -> None:
        """Fetch, if nobody does."""
        if not self._flights.is_under_way:
            self._watch.note_fetch_begun()
            self._keyring.note_begun()
            self._flights.begin()

    def _fetch_now(self) -> _Fetched:
        """Fetch, on a thread."""
        programs = Programs()
        self._programs.add(programs)
        before = self._files_now()
        outcome: Credentials | TokenError
        try:
            outcome = self._fetch(self._identity, self._region, programs)
        except TokenError as error:
            outcome = error
        finally:
            self._programs.discard(programs)
        return _Fetched(before, outcome, self._files_now())

    def _files_now(self) -> Fingerprint | None:
        """Look at the files; if that fails, credentials may be found all the same."""
        try:
            return self._look_at_files()
        except Exception:  # noqa: BLE001 - `_look` tells of it
            return None

    def _fetch_ended(self, end: _Fetched | Exception) -> None:
        """Take the end of a fetch, on the event loop."""
        if isinstance(end, _Fetched):
            outcome = end.outcome
            has_found = isinstance(outcome, Credentials)
            if end.before is not None and end.after is not None:
                self._watch.note_fetch(end.before, end.after, has_found=has_found)
        else:
            if isinstance(end, TimeoutError):
                # It had its time; and one that ignores a request to end would keep
                # its thread for ever.
                self._end_programs(signal.SIGKILL)
            outcome = self._told(end)
        if isinstance(outcome, Credentials):
            self._take(outcome)
        else:
            self._keyring.note_failed(outcome, self._clocks.read())
        self._tell()

    def _end_programs(self, number: signal.Signals) -> None:
        for programs in tuple(self._programs):
            programs.end(number)

    def _fetch_ended_late(self, end: _Fetched) -> None:
        """Take what a fetch that was given up brings, if there is nothing else."""
        is_wanted = self._keyring.is_wanting(self._clocks.read())
        if is_wanted and isinstance(end.outcome, Credentials):
            self._take(end.outcome)
            self._tell()

    def _take(self, found: Credentials) -> None:
        if self._keyring.note_fetched(found, self._clocks.read()):
            self._wake()

    def _wake(self) -> None:
        """Let those who wait look whether there is something for them."""
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
        while (trouble := self._keyring.bad_news()) is not None:
            self._events.credentials_failed(trouble)
