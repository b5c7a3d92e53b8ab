"""TLS over memory: ciphertext in, plaintext out, and back.

Why not the event loop's own TLS: it keeps a receive buffer per connection (256 KiB
in uvloop, touched by one large result and never given back), it ends each read
with an exception, and it cannot be begun in the middle of what was already read.
OpenSSL does the same work here, through two `ssl.MemoryBIO`, for either side.
"""

import contextlib
import ssl
from collections.abc import Mapping
from typing import Any

RECORD_BYTES = 16_384
"""The largest TLS record (RFC 8446, 5.1): one read never gives more."""


SLICE_BYTES = 16_384
"""How much OpenSSL's buffer is given at a time: it keeps the largest size it ever had
(measured after a 200 kB result: 200 KiB a session at once, 20 in such slices)."""


class TlsPipe:
    """One TLS connection without its socket. Errors are `ssl.SSLError`."""

    __slots__ = ("_incoming", "_object", "is_ended", "outgoing")

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
    ) -> None:
        self._incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        """What TLS has to send; anything may add to it (handshake, alert, update)."""
        self._object = context.wrap_bio(
            self._incoming,
            self.outgoing,
            server_side=server_side,
            server_hostname=server_hostname,
        )
        self.is_ended = False
        """Whether the peer said that it will send no more (close_notify)."""

    @property
    def version(self) -> str | None:
        """The protocol version agreed on, such as ``TLSv1.3``."""
        return self._object.version()

    @property
    def alpn(self) -> str | None:
        """The application protocol agreed on; None where the peer chose none."""
        return self._object.selected_alpn_protocol()

    @property
    def peer_certificate(self) -> Mapping[str, Any]:
        """What `ssl.SSLObject.getpeercert` says: empty if it was not verified."""
        return self._object.getpeercert() or {}

    def handshake(self, ciphertext: bytes = b"") -> bool:
        """Take a step; True when done. Send `take_output` after each, even a failed."""
        self._incoming.write(ciphertext)
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def receive(self, ciphertext: bytes) -> bytes:
        """Decrypt what has become whole; it may be nothing."""
        incoming = self._incoming
        if len(ciphertext) <= SLICE_BYTES:
            incoming.write(ciphertext)
            data = self._read_record()
            # Asking OpenSSL for what cannot be there costs an exception, about a
            # microsecond for every message; so look first.
            return data + self._read_out() if incoming.pending and data else data
        view = memoryview(ciphertext)
        plaintext = []
        for start in range(0, len(view), SLICE_BYTES):
            incoming.write(view[start : start + SLICE_BYTES])
            plaintext.append(self._read_out())
        return b"".join(plaintext)

    def _read_record(self) -> bytes:
        """Give the plaintext of the next record, or nothing."""
        try:
            data = self._object.read(RECORD_BYTES)
        except ssl.SSLWantReadError:
            return b""  # the rest of the record has not come yet
        except ssl.SSLZeroReturnError:
            data = b""
        self.is_ended = not data
        return data

    def _read_out(self) -> bytes:
        """Give the plaintext of all records that are whole."""
        records = []
        while self._incoming.pending and (data := self._read_record()):
            records.append(data)
        return b"".join(records)

    def encrypt(self, plaintext: bytes) -> bytes:
        """Encrypt, and give all that is to be sent."""
        written = self._object.write(plaintext)
        if written < len(plaintext):
            rest = memoryview(plaintext)[written:]
            while rest:
                rest = rest[self._object.write(rest) :]
        return self.outgoing.read()

    def take_output(self) -> bytes:
        """Give what TLS itself has to send: handshake, key updates, alerts."""
        return self.outgoing.read() if self.outgoing.pending else b""

    def close(self) -> bytes:
        """Say that no more will be sent; give the close_notify to send."""
        # The peer's own close_notify is not waited for, or it is too late for ours.
        with contextlib.suppress(OSError):
            self._object.unwrap()
        return self.take_output()
