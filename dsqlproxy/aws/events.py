"""Who is told what becomes of an identity's credentials (no I/O)."""

from typing import Protocol

from dsqlproxy.aws.credentials import Credentials
from dsqlproxy.errors import TokenError


class CredentialEvents(Protocol):
    """Is told on the event loop, and must neither wait nor fail."""

    def credentials_changed(
        self, credentials: Credentials, *, expires_in: float | None
    ) -> None:
        """Learn that these are used now: others, or the same ones after trouble."""

    def credentials_failed(self, error: TokenError) -> None:
        """Learn why there are none, or no new ones; once for each distinct reason."""

    def watch_failed(self, error: Exception) -> None:
        """Learn why changes of the AWS files are not seen; once for each reason."""


class NobodyToTell:
    """For a command that signs one token."""

    def credentials_changed(
        self, credentials: Credentials, *, expires_in: float | None
    ) -> None:
        """Ignore it."""

    def credentials_failed(self, error: TokenError) -> None:
        """Ignore it."""

    def watch_failed(self, error: Exception) -> None:
        """Ignore it."""
