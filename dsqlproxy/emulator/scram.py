"""SCRAM-SHA-256 for a client (RFC 5802, RFC 7677), without channel binding. No I/O.

The emulator logs in to a ``--backend`` with it where that server asks for it.
"""

import base64
import binascii
import hashlib
import hmac
from typing import Final

from dsqlproxy.errors import ProtocolError

MECHANISM: Final = "SCRAM-SHA-256"
_NO_CHANNEL_BINDING: Final = "n,,"
_MAX_ITERATIONS: Final = 1_000_000


class ScramClient:
    """One exchange: `first`, then `final` for the challenge, then `verify`."""

    def __init__(self, password: str, *, nonce: str) -> None:
        self._password = password.encode()
        self._nonce = nonce
        # PostgreSQL ignores the name here: the startup packet has it.
        self._first_bare = f"n=,r={nonce}"
        self._server_signature = b""

    def first(self) -> bytes:
        """Give the client's first message."""
        return (_NO_CHANNEL_BINDING + self._first_bare).encode()

    def final(self, challenge: bytes) -> bytes:
        """Answer the server's first message with the proof."""
        fields = _fields(challenge)
        try:
            nonce = fields["r"]
            salt = base64.b64decode(fields["s"], validate=True)
            iterations = int(fields["i"])
        except (KeyError, ValueError, binascii.Error):
            raise ProtocolError("malformed SCRAM challenge") from None
        if not nonce.startswith(self._nonce) or not 1 <= iterations <= _MAX_ITERATIONS:
            raise ProtocolError("unacceptable SCRAM challenge")
        binding = base64.b64encode(_NO_CHANNEL_BINDING.encode()).decode()
        without_proof = f"c={binding},r={nonce}"
        signed = b",".join(
            (self._first_bare.encode(), challenge, without_proof.encode())
        )
        salted = hashlib.pbkdf2_hmac("sha256", self._password, salt, iterations)
        client_key = _hmac(salted, b"Client Key")
        stored_key = hashlib.sha256(client_key).digest()
        signature = _hmac(stored_key, signed)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        self._server_signature = _hmac(_hmac(salted, b"Server Key"), signed)
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def verify(self, final: bytes) -> None:
        """Check that the server knows the password too."""
        expected = base64.b64encode(self._server_signature).decode()
        if not hmac.compare_digest(_fields(final).get("v", ""), expected):
            raise ProtocolError("the server's SCRAM signature is wrong")


def _fields(message: bytes) -> dict[str, str]:
    parts = message.decode("ascii", "replace").split(",")
    return {part[:1]: part[2:] for part in parts if part[1:2] == "="}


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")
