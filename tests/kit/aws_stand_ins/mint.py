"""Keys as AWS would give them, all remembered, and told to whoever is to trust them."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Final

from dsqlproxy.emulator.sigv4 import AccessKey

ACCOUNT: Final = "111122223333"  # AWS's account of examples

_ID_CHARACTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_SECRET_CHARACTERS: Final = f"{_ID_CHARACTERS}{_ID_CHARACTERS.lower()}01/+"


@dataclass(frozen=True, slots=True)
class TemporaryCredentials:
    """A key with a session token, until a time in seconds since the epoch."""

    key: AccessKey
    expires_at: float

    @property
    def access_key_id(self) -> str:
        return self.key.access_key_id

    @property
    def session_token(self) -> str:
        return self.key.session_token or ""

    @property
    def expiration(self) -> str:
        """When they expire, as AWS writes it: in whole seconds of UTC."""
        return iso_time(self.expires_at)


def iso_time(seconds: float) -> str:
    """Give seconds since the epoch as ``2026-11-22T12:57:34Z``."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def role_arn(name: str) -> str:
    """Give the ARN of a role, which ``AWS IAM GRANT`` names."""
    return f"arn:aws:iam::{ACCOUNT}:role/{name}"


class Mint:
    """Where all keys of the stand-ins come from.

    ``on_key`` hears of each new key before anybody is given it, in the thread that
    answers: `Emulator.trust` can be put there, so that a cluster takes its tokens.
    """

    def __init__(self, *, clock: Callable[[], float], random: Random) -> None:
        self._clock = clock
        self._random = random
        self._lock = threading.Lock()
        self._keys: dict[str, AccessKey] = {}
        self._temporary: list[TemporaryCredentials] = []
        self.on_key: Callable[[AccessKey], None] = lambda _: None

    @property
    def temporary(self) -> tuple[TemporaryCredentials, ...]:
        """All temporary credentials so far, the newest last."""
        with self._lock:
            return tuple(self._temporary)

    @property
    def last(self) -> TemporaryCredentials:
        """The newest temporary credentials."""
        return self.temporary[-1]

    def find(self, access_key_id: str) -> AccessKey | None:
        """Give a key by its id, whether or not it has expired."""
        with self._lock:
            return self._keys.get(access_key_id)

    def has_expired(self, access_key_id: str) -> bool:
        """Tell whether this is a temporary key whose time is over."""
        now = self._clock()
        return any(
            each.access_key_id == access_key_id and each.expires_at <= now
            for each in self.temporary
        )

    def add(self, key: AccessKey) -> AccessKey:
        """Know a key that was made elsewhere."""
        with self._lock:
            self._keys[key.access_key_id] = key
        self.on_key(key)
        return key

    def long_term(self, user: str = "developer") -> AccessKey:
        """Make the key of an IAM user, which does not expire."""
        return self.add(self._new_key("AKIA", f"arn:aws:iam::{ACCOUNT}:user/{user}"))

    def mint(self, principal_arn: str, *, lifetime: float) -> TemporaryCredentials:
        """Make temporary credentials that expire in so many seconds."""
        key = self._new_key("ASIA", principal_arn, session_token=self.text(400))
        # AWS tells whole seconds, so what its libraries hold is exactly this.
        expires_at = float(int(self._clock() + lifetime))
        made = TemporaryCredentials(key, expires_at)
        with self._lock:
            self._temporary.append(made)
        self.add(key)
        return made

    def text(self, length: int) -> str:
        """Give characters that nobody can guess."""
        return self._choose(_SECRET_CHARACTERS, length)

    def _new_key(
        self, prefix: str, principal_arn: str, *, session_token: str | None = None
    ) -> AccessKey:
        return AccessKey(
            access_key_id=prefix + self._choose(_ID_CHARACTERS, 16),
            secret_access_key=self.text(40),
            principal_arn=principal_arn,
            session_token=session_token,
        )

    def _choose(self, characters: Iterable[str], length: int) -> str:
        with self._lock:
            return "".join(self._random.choices([*characters], k=length))
