"""A token source whose fetches, files and clocks are a test's."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from dsqlproxy.aws.credentials import Credentials, Identity
from dsqlproxy.aws.files import Fingerprint, Stamp
from dsqlproxy.aws.programs import Programs
from dsqlproxy.aws.secret import Secret
from dsqlproxy.aws.tokens import SigningRequest, Token, TokenSource
from dsqlproxy.commands.clocks import system_clocks
from dsqlproxy.errors import TokenError
from tests.kit.virtual_clocks import VirtualClocks
from tests.upstream.wire import CLUSTER, REGION

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"  # AWS documentation's example
TROUBLE = TokenError("AWS could not be reached", detail="Tried: x.", hint="Do y.")
HOUR = 3600.0
FORM = re.compile(
    re.escape(CLUSTER) + r"/\?Action=(?P<action>DbConnect(Admin)?)"
    r"&X-Amz-Algorithm=AWS4-HMAC-SHA256"
    r"&X-Amz-Credential=(?P<key>\w+)%2F(?P<day>\d{8})%2Fus-east-1%2Fdsql%2Faws4_request"
    r"&X-Amz-Date=(?P=day)T\d{6}Z&X-Amz-Expires=(?P<expires>\d+)"
    r"&X-Amz-SignedHeaders=host(&X-Amz-Security-Token=[^&]+)?"
    r"&X-Amz-Signature=[0-9a-f]{64}"
)


def request(
    role: str = "admin", *, lifetime_seconds: int = 60, region: str = REGION
) -> SigningRequest:
    return SigningRequest(CLUSTER, region, role, lifetime_seconds)


@dataclass
class Told:
    """What the log would have."""

    happened: asyncio.Event
    changed: list[tuple[Credentials, float | None]] = field(default_factory=list)
    failed: list[TokenError] = field(default_factory=list)
    watch: list[Exception] = field(default_factory=list)

    def credentials_changed(
        self, credentials: Credentials, *, expires_in: float | None
    ) -> None:
        self.changed.append((credentials, expires_in))
        self.happened.set()

    def credentials_failed(self, error: TokenError) -> None:
        self.failed.append(error)
        self.happened.set()

    def watch_failed(self, error: Exception) -> None:
        self.watch.append(error)
        self.happened.set()


class Stage:
    """What happens to one source of tokens."""

    def __init__(self) -> None:
        self.clocks = VirtualClocks()
        self._happened = asyncio.Event()
        self.told = Told(self._happened)
        self.calls = 0
        self.ended = 0
        self.is_open = threading.Event()
        self.is_open.set()
        self.version = 0
        self.caches = 0
        self.writes_cache = False
        self.looks = 0
        self.look_error: Exception | None = None
        self.writes_file = False
        self.may_look = threading.Event()
        self.may_look.set()
        self.outcome: Credentials | TokenError | Exception = self.keys()
        self._loop = asyncio.get_running_loop()
        self._made: list[TokenSource] = []

    def source(
        self,
        *,
        identity: Identity | None = None,
        wait_seconds: float = 8.0,
        hanging_seconds: float = 30.0,
        look_seconds: float = 0.001,
    ) -> TokenSource:
        self._made.append(
            TokenSource(
                identity or Identity("dev"),
                region=REGION,
                clocks=self.clocks.clocks,
                events=self.told,
                random=lambda: 0.0,
                wait_seconds=wait_seconds,
                fetch=self._fetch,
                look_at_files=self._look,
                hanging_seconds=hanging_seconds,
                look_seconds=look_seconds,
            )
        )
        return self._made[-1]

    def close(self) -> None:
        self.is_open.set()
        self.may_look.set()
        for source in self._made:
            source.close()

    def keys(
        self, name: str = "AKIAIOSFODNN7EXAMPLE", *, lifetime: float | None = None
    ) -> Credentials:
        """Give credentials; ``lifetime`` is from now on, by the wall clock."""
        expires_at = None if lifetime is None else self.clocks.wall + lifetime
        return Credentials(name, Secret(SECRET), expires_at=expires_at, source="a test")

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds; looked at after each fetch and each look."""
        async with asyncio.timeout(10):
            while not condition():
                await self._happened.wait()
                self._happened.clear()
                # What it leads to happens on the loop, a turn or two later.
                for _ in range(5):
                    await asyncio.sleep(0)

    async def until_looked(self, times: int = 2) -> None:
        """Wait for whole turns of `TokenSource.keep`."""
        aim = self.looks + times + 1
        await self.until(lambda: self.looks >= aim)

    async def until_failed(self, source: TokenSource, times: int) -> None:
        """Wait until so many fetches have failed, and the source knows it."""
        await self.until(lambda: source._keyring._failures == times)

    def _fetch(
        self, _identity: Identity, _region: str, _programs: Programs
    ) -> Credentials:
        self.calls += 1
        self._tell()
        outcome = self.outcome
        assert self.is_open.wait(10)
        if self.writes_cache:
            self.caches += 1
        if self.writes_file:
            self.version += 1
        self.ended += 1
        self._tell()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _look(self) -> Fingerprint:
        self.looks += 1
        self._tell()
        if threading.current_thread().name.startswith("aws-files"):
            assert self.may_look.wait(10)
        if self.look_error is not None:
            raise self.look_error
        return Fingerprint(
            (("config", Stamp(self.version, 0, 0)),),
            (("cache", Stamp(self.caches, 0, 0)),),
        )

    def _tell(self) -> None:
        self._loop.call_soon_threadsafe(self._happened.set)


@asynccontextmanager
async def kept(source: TokenSource) -> AsyncIterator[None]:
    """Run `TokenSource.keep` for the time of a block."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(source.keep())
        try:
            yield
        finally:
            task.cancel()


def key_of(token: Token) -> str:
    found = FORM.fullmatch(token.reveal())
    assert found is not None
    return found["key"]


def system_source(identity: Identity) -> TokenSource:
    """Make a source of which nothing is a test's."""
    return TokenSource(identity, region=REGION, clocks=system_clocks())
