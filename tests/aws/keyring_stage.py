"""A keyring whose clocks and fetches are a test's."""

from dsqlproxy.aws.credentials import Credentials
from dsqlproxy.aws.keyring import Keyring
from dsqlproxy.aws.secret import Secret
from dsqlproxy.clocks import Reading
from dsqlproxy.errors import TokenError
from dsqlproxy.situations.credentials import CredentialOrigin
from tests.kit.virtual_clocks import VirtualClocks

HOUR = 3600.0
NO_JITTER = 0.0
TROUBLE = TokenError("AWS could not be reached", detail="Tried: x.", hint="Do y.")


class KeyringStage:
    """A keyring and its clocks."""

    def __init__(self) -> None:
        self.clocks = VirtualClocks()
        self.ring = Keyring(CredentialOrigin("dev"), random=lambda: NO_JITTER)

    @property
    def now(self) -> Reading:
        return self.clocks.clocks.read()

    def keys(
        self, name: str = "AKIA1", *, lifetime: float | None = None
    ) -> Credentials:
        expires_at = None if lifetime is None else self.clocks.wall + lifetime
        return Credentials(name, Secret("secret"), expires_at=expires_at)

    def fetched(
        self, name: str = "AKIA1", *, lifetime: float | None = None
    ) -> Credentials:
        self.ring.note_begun()
        found = self.keys(name, lifetime=lifetime)
        assert self.ring.note_fetched(found, self.now)
        return found

    def failed(self, trouble: TokenError = TROUBLE) -> None:
        self.ring.note_begun()
        self.ring.note_failed(trouble, self.now)

    def usable(self, host: str | None = None) -> Credentials | None:
        return self.ring.usable(self.now, host)

    def failure(self, host: str | None = None) -> TokenError | None:
        return self.ring.failure(self.now, host)

    def is_due(self) -> bool:
        return self.ring.is_due(self.now)
