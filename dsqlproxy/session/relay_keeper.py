"""What a relay asks of whoever gives its session another upstream."""

from typing import Protocol

from dsqlproxy.errors import DsqlProxyError


class RelayKeeper(Protocol):
    """Who keeps a session alive; asked by its relay."""

    def upstream_lost(self) -> bool:
        """Learn that the upstream of a quiet session is gone; say if it is replaced."""

    def first_message(self) -> None:
        """Learn that the client speaks again after a while; may pause the relay."""

    def client_waits(self) -> None:
        """Learn that the client said something while there is no upstream."""

    def statement_refused(self, error: DsqlProxyError) -> None:
        """Learn that a statement was answered with an error of ours."""
