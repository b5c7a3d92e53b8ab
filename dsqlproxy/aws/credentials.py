"""Whose credentials, and what they are: values, without a word to AWS (no I/O)."""

import math
from dataclasses import dataclass, field
from typing import Final, Self

from dsqlproxy.aws.secret import Secret
from dsqlproxy.config.assume_role import AssumedRole

LEAST_SECONDS: Final = 1.0
"""The shortest token that AWS allows: credentials with less left sign nothing."""


@dataclass(frozen=True, slots=True)
class StaticCredentials:
    """Credentials that are given instead of looked for: for the demo and tests."""

    access_key_id: str
    secret_access_key: Secret = field(repr=False)
    session_token: Secret | None = field(default=None, repr=False)

    @classmethod
    def of(cls, access_key_id: str, secret: str, session_token: str | None) -> Self:
        """Make them of plain texts."""
        token = Secret(session_token) if session_token else None
        return cls(access_key_id, Secret(secret), token)


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose credentials: a profile or the usual chain, and a role on top of it.

    ``given`` replaces the chain and keeps the user's AWS files out of it.
    """

    profile: str | None = None
    assume_role: AssumedRole | None = None
    given: StaticCredentials | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """Credentials as they were at one moment; they never renew themselves.

    ``expires_at`` is by the wall clock, None where nobody said when: such ones are
    good until the cluster refuses what they sign. ``source`` says in words where
    they were found, ``role_arn`` which role was assumed last, if one was.
    """

    access_key_id: str
    secret_access_key: Secret = field(repr=False)
    session_token: Secret | None = field(default=None, repr=False)
    expires_at: float | None = None
    source: str = "given to the proxy"
    role_arn: str = ""

    @property
    def short_id(self) -> str:
        """The access key id as a log shows it: enough to find it, not the whole."""
        tail = self.access_key_id[-4:] if len(self.access_key_id) >= 12 else ""
        return f"{self.access_key_id[:4]}…{tail}"

    def seconds_left(self, now: float) -> float:
        """Give how long they are valid yet; infinite where that is not known."""
        return math.inf if self.expires_at is None else self.expires_at - now

    def has_expired(self, now: float) -> bool:
        """Whether nothing can be signed with them any more."""
        return self.seconds_left(now) < LEAST_SECONDS

    def are_same_keys(self, other: "Credentials") -> bool:
        """Whether both sign alike, whatever is said of source and expiry."""
        return (
            self.access_key_id == other.access_key_id
            and self.secret_access_key == other.secret_access_key
            and self.session_token == other.session_token
        )
