"""Cancel keys: the ones that clients hold, and the session each belongs to.

A client gets a key that the proxy minted, which stays good for the life of its
session over any number of upstreams. The process id in it is that of the first
upstream where no living session uses it, so that programs which compare it with
``pg_backend_pid()`` are right; the secret is ours.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from dsqlproxy.pgproto.messages import BackendKeyData
from dsqlproxy.pgproto.startup import CancelRequest

Target = TypeVar("Target")

_MAX_PROCESS_ID = 0x7FFFFFFF  # an int32 on the wire; some drivers read it as signed


@dataclass(slots=True)
class CancelKeys(Generic[Target]):
    """Minted keys and whose they are. ``random_bytes`` is `secrets.token_bytes`."""

    random_bytes: Callable[[int], bytes]
    _targets: dict[int, tuple[bytes, Target]] = field(default_factory=dict, repr=False)

    def mint(
        self, target: Target, *, process_id: int | None, key_bytes: int
    ) -> BackendKeyData:
        """Make a key for a session; ``process_id`` is the wish."""
        while not process_id or process_id in self._targets:
            drawn = int.from_bytes(self.random_bytes(4), "big")
            process_id = drawn & _MAX_PROCESS_ID
        secret = self.random_bytes(key_bytes)
        self._targets[process_id] = (secret, target)
        return BackendKeyData(process_id, secret)

    def forget(self, key: BackendKeyData) -> None:
        """Drop the key of a session that ended."""
        self._targets.pop(key.process_id, None)

    def find(self, request: CancelRequest) -> Target | None:
        """Give the session that a request means; None unless the secret is right.

        Compared in constant time: a guess must not learn how far it was right.
        """
        secret, target = self._targets.get(request.process_id, (b"", None))
        if target is None or not hmac.compare_digest(secret, request.secret_key):
            return None
        return target
