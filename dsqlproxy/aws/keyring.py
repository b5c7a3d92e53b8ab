"""What the proxy holds to sign with, and when to look for other (no I/O).

The credentials of one identity are in one of four states, for each cluster::

    unknown     nothing was ever found, nothing failed yet
    usable      not expired by the wall clock, not put aside
    put aside   this cluster refused them; nothing is signed with them for it for a
                while, unless a fetch gives others; other clusters know nothing of it
    spent       expired, or there are none, and the last fetch failed

Two rules are behind all of it. What is usable is used, however many fetches fail; so
keys without an expiry that are deleted from a file go on signing, until the cluster
refuses them or others are found. And a fetch is due ahead of the expiry, after a
failure by a back-off, and at once after whatever may have changed the outcome.
"""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Final

from dsqlproxy.aws.credentials import Credentials
from dsqlproxy.clocks import Reading
from dsqlproxy.errors import TokenError
from dsqlproxy.situations.credentials import (
    CredentialOrigin,
    expired_when_fetched,
    not_renewed,
    put_aside,
)

LONGEST_MARGIN_SECONDS: Final = 900.0
"""AWS's SDKs renew 15 minutes ahead, and services have others ready by then."""

SHORTEST_MARGIN_SECONDS: Final = 5.0
"""For a fetch of two calls that take their time."""

LEAST_GAP_SECONDS: Final = 1.0
"""Between two fetches that nobody asked for, whatever the credentials say."""

LONGEST_DELAY_SECONDS: Final = 30.0

ASK_SECONDS: Final = 10.0
"""Between two fetches that a refusal asks for which may not be the credentials'."""


def margin_seconds(lifetime_seconds: float) -> float:
    """How long before they expire credentials are renewed: a quarter of their life.

    ``lifetime_seconds`` is what they had left when they were fetched. So a source
    that gives the same ones until shortly before their end is asked again and again,
    each time after three quarters of what is left.
    """
    quarter = lifetime_seconds / 4.0
    return min(max(quarter, SHORTEST_MARGIN_SECONDS), LONGEST_MARGIN_SECONDS)


def delay_seconds(failures: int, jitter: float) -> float:
    """How long to wait after so many failures: 1, 2, 4 … 30 s, each up to half less.

    ``jitter`` is in [0, 1): many proxies that lost AWS together come back apart.
    """
    delay = min(2.0 ** min(failures - 1, 10), LONGEST_DELAY_SECONDS)
    return delay * (1.0 - jitter / 2.0)


@dataclass(slots=True)
class _Aside:
    """What one cluster has said against the credentials that are held."""

    refusals: int = 0
    until: float = 0.0
    is_over: bool = True
    trouble: TokenError | None = None
    """What is to be told yet: the first refusal, and no other."""


class Keyring:
    """The credentials held for one identity, and the trouble there is with them.

    Methods take ``now``; the wall clock counts for the expiry, the monotonic one for
    everything else. ``random`` gives numbers in [0, 1). Clusters are known by their
    host names, of which there are as many as the configuration has.
    """

    def __init__(
        self, origin: CredentialOrigin, *, random: Callable[[], float]
    ) -> None:
        self._origin = origin
        self._random = random
        self._held: Credentials | None = None
        self._lifetime_seconds = 0.0
        self._asides: dict[str, _Aside] = {}
        self._trouble: TokenError | None = None
        self._failures = 0
        self._retry_at = 0.0
        self._tried_at: float | None = None
        self._asked_at: float | None = None
        self._is_hurried = False
        self._announced: tuple[str, str, str] | None = None
        self._announced_trouble: tuple[str, str] | None = None

    # -- what there is ------------------------------------------------------------

    def usable(self, now: Reading, host: str | None = None) -> Credentials | None:
        """Give the credentials to sign with, for a cluster or for any."""
        held = self._held
        if held is None or held.has_expired(now.wall) or self._is_aside(host, now):
            return None
        return held

    def failure(self, now: Reading, host: str | None = None) -> TokenError | None:
        """Say why there is nothing to sign with; None where there is, or unknown."""
        if self.usable(now, host) is not None:
            return None
        held = self._held
        if held is not None and not held.has_expired(now.wall):
            return copy(self._trouble) or put_aside(held.short_id, self._origin, host)
        if self._trouble is None:
            return None
        if held is not None:
            return not_renewed(self._trouble)
        return copy(self._trouble)  # many raise it, each with a traceback of its own

    def is_wanting(self, now: Reading) -> bool:
        """Whether others are wanted, by all clusters or by one of them."""
        return self.usable(now) is None or any(
            self._is_aside(host, now) for host in self._asides
        )

    def has_tried_since(self, monotonic: float) -> bool:
        """Whether a fetch has ended since then."""
        return self._tried_at is not None and self._tried_at > monotonic

    def is_due(self, now: Reading) -> bool:
        """Say if it is time to fetch."""
        if self._is_hurried or self._tried_at is None:
            return True
        if self._trouble is not None:
            return now.monotonic >= self._retry_at
        if self._held is None or now.monotonic - self._tried_at < LEAST_GAP_SECONDS:
            return False
        left = self._held.seconds_left(now.wall)
        return left < margin_seconds(self._lifetime_seconds)

    # -- what happens -------------------------------------------------------------

    def note_begun(self) -> None:
        """Learn that a fetch begins: what changes from now on, it may not see."""
        self._is_hurried = False

    def hurry(self) -> None:
        """Learn that another fetch may have another outcome: files changed."""
        self._is_hurried = True

    def note_jump(self, now: Reading) -> None:
        """Learn that this machine slept or its clock was set: no more waiting."""
        self._retry_at = now.monotonic

    def note_fetched(self, credentials: Credentials, now: Reading) -> bool:
        """Take what a fetch found; False if it cannot be used."""
        if credentials.has_expired(now.wall):
            self.note_failed(expired_when_fetched(self._origin), now)
            return False
        held = self._held
        if held is None or not credentials.are_same_keys(held):
            self._asides.clear()
        self._held = credentials
        self._lifetime_seconds = credentials.seconds_left(now.wall)
        self._trouble = None
        self._failures = 0
        self._tried_at = now.monotonic
        return True

    def note_failed(self, trouble: TokenError, now: Reading) -> None:
        """Take the failure of a fetch; what is held stays."""
        self._trouble = trouble
        self._failures += 1
        self._tried_at = now.monotonic
        delay = delay_seconds(self._failures, self._random())
        self._retry_at = now.monotonic + delay

    def put_aside(self, credentials: Credentials, now: Reading, host: str) -> bool:
        """Sign nothing more with these for a cluster, if they are held; True if new.

        Not for good: a key can be activated again. Each time they are refused anew it
        is for longer, as after failures.
        """
        if not self._holds(credentials) or self._is_aside(host, now):
            return False
        aside = self._asides.setdefault(host, _Aside())
        if not aside.refusals:
            aside.trouble = put_aside(credentials.short_id, self._origin, host)
        aside.refusals += 1
        aside.until = now.monotonic + delay_seconds(aside.refusals, self._random())
        aside.is_over = False
        self._is_hurried = True
        return True

    def note_accepted(self, credentials: Credentials, host: str) -> bool:
        """Forget a cluster's refusals of these; True if there were any."""
        return self._holds(credentials) and self._asides.pop(host, None) is not None

    def end_asides(self, now: Reading) -> bool:
        """Learn that time has passed; True if a cluster is to be tried again.

        Then there may be others by now, and it is time to fetch.
        """
        ended = [
            each
            for each in self._asides.values()
            if not each.is_over and now.monotonic >= each.until
        ]
        for each in ended:
            each.is_over = self._is_hurried = True
        return bool(ended)

    def ask(self, credentials: Credentials, now: Reading) -> bool:
        """Say if a refusal for what may be another reason is worth a fetch."""
        if not self._holds(credentials):
            return False
        asked_at = self._asked_at
        if asked_at is not None and now.monotonic - asked_at < ASK_SECONDS:
            return False
        self._asked_at = now.monotonic
        self._is_hurried = True
        return True

    # -- what is worth telling ----------------------------------------------------

    def news(self) -> Credentials | None:
        """Give what is held if it is not what was told last, or trouble was."""
        held = self._held
        if held is None or self._trouble is not None:
            return None
        told = (held.access_key_id, held.source, held.role_arn)
        if told == self._announced and self._announced_trouble is None:
            return None
        self._announced, self._announced_trouble = told, None
        return held

    def bad_news(self) -> TokenError | None:
        """Give a trouble that was not told yet: of a fetch, or with a cluster."""
        trouble = self._trouble
        if trouble is not None:
            told = (trouble.message, trouble.detail)
            if told != self._announced_trouble:
                self._announced_trouble = told
                return trouble
        for aside in self._asides.values():
            if aside.trouble is not None:
                trouble, aside.trouble = aside.trouble, None
                return trouble
        return None

    def _holds(self, credentials: Credentials) -> bool:
        return self._held is not None and credentials.are_same_keys(self._held)

    def _is_aside(self, host: str | None, now: Reading) -> bool:
        aside = None if host is None else self._asides.get(host)
        return aside is not None and now.monotonic < aside.until
