"""Startup packets: the first bytes of a connection, which have no type byte.

PostgreSQL manual, "Message Formats": StartupMessage, SSLRequest, GSSENCRequest,
CancelRequest. ``_pq_.`` options and minor versions above 0 since protocol 3.2 of
PostgreSQL 18, whose server answers versions and options it does not know with
NegotiateProtocolVersion instead of refusing them.
"""

from dataclasses import dataclass, field
from struct import Struct
from typing import NamedTuple

from dsqlproxy.errors import ProtocolError

MAX_STARTUP_PACKET_BYTES = 10_000
"""PostgreSQL's own limit (MAX_STARTUP_PACKET_LENGTH, pqcomm.h)."""

MAX_CANCEL_KEY_BYTES = 256
"""Protocol 3.2 allows keys from 4 up to 256 bytes."""

DIRECT_TLS_FIRST_BYTE = 0x16
"""A TLS handshake record; no startup packet of legal length begins with it."""

OPTION_PREFIX = "_pq_."

_LENGTH = Struct("!I")
_TWO_WORDS = Struct("!II")

_CANCEL_REQUEST_CODE = 80877102
_SSL_REQUEST_CODE = 80877103
_GSSENC_REQUEST_CODE = 80877104


class ProtocolVersion(NamedTuple):
    """A version as the StartupMessage carries it: major in the upper 16 bits."""

    major: int
    minor: int

    @classmethod
    def from_word(cls, word: int) -> "ProtocolVersion":
        """Split the 32-bit word of the wire."""
        return cls(word >> 16, word & 0xFFFF)

    @property
    def word(self) -> int:
        """The 32-bit word of the wire."""
        return self.major << 16 | self.minor


PROTOCOL_3_0 = ProtocolVersion(3, 0)
PROTOCOL_3_2 = ProtocolVersion(3, 2)


@dataclass(frozen=True, slots=True)
class SSLRequest:
    """Asks whether TLS may begin; answered by one byte, ``S`` or ``N``."""

    def encode(self) -> bytes:
        """Give the packet."""
        return _TWO_WORDS.pack(8, _SSL_REQUEST_CODE)


@dataclass(frozen=True, slots=True)
class GSSENCRequest:
    """Asks whether GSSAPI encryption may begin; answered by ``G`` or ``N``."""

    def encode(self) -> bytes:
        """Give the packet."""
        return _TWO_WORDS.pack(8, _GSSENC_REQUEST_CODE)


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """Asks to stop what the session with this key is doing; never answered."""

    process_id: int
    secret_key: bytes = field(repr=False)

    def encode(self) -> bytes:
        """Give the packet; the key is 4 bytes in 3.0, up to 256 in 3.2."""
        length = 12 + len(self.secret_key)
        return (
            _TWO_WORDS.pack(length, _CANCEL_REQUEST_CODE)
            + _LENGTH.pack(self.process_id)
            + self.secret_key
        )


@dataclass(frozen=True, slots=True)
class StartupMessage:
    """Asks for a session: version and startup parameters, in the order sent.

    Text crosses as UTF-8 with surrogate escapes, so that bytes of any other
    encoding survive decode and encode unchanged.
    """

    version: ProtocolVersion
    parameters: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str | None:
        """Give the last value of a parameter, as a server would take it."""
        for known, value in reversed(self.parameters):
            if known == name:
                return value
        return None

    @property
    def protocol_options(self) -> tuple[str, ...]:
        """The names that ask for protocol extensions (``_pq_.``)."""
        return tuple(
            name for name, _ in self.parameters if name.startswith(OPTION_PREFIX)
        )

    def encode(self) -> bytes:
        """Give the packet."""
        body = b"".join(
            _text(part) + b"\0" for pair in self.parameters for part in pair
        )
        length = 8 + len(body) + 1
        return _TWO_WORDS.pack(length, self.version.word) + body + b"\0"


StartupPacket = SSLRequest | GSSENCRequest | CancelRequest | StartupMessage


def decode_startup_packet(body: bytes) -> StartupPacket:
    """Decode what follows the length word; `ProtocolError` says what is wrong."""
    if len(body) < 4:
        raise ProtocolError("startup packet is too short")
    (code,) = _LENGTH.unpack_from(body)
    if code == _SSL_REQUEST_CODE and len(body) == 4:
        return SSLRequest()
    if code == _GSSENC_REQUEST_CODE and len(body) == 4:
        return GSSENCRequest()
    if code == _CANCEL_REQUEST_CODE:
        return _decode_cancel_request(body)
    return _decode_startup_message(ProtocolVersion.from_word(code), body[4:])


def _decode_cancel_request(body: bytes) -> CancelRequest:
    secret_key = body[8:]
    if not 4 <= len(secret_key) <= MAX_CANCEL_KEY_BYTES:
        raise ProtocolError("cancel request has an invalid length")
    return CancelRequest(_LENGTH.unpack_from(body, 4)[0], secret_key)


def _decode_startup_message(version: ProtocolVersion, body: bytes) -> StartupMessage:
    if version.major != 3:
        msg = f"unsupported frontend protocol {version.major}.{version.minor}"
        raise ProtocolError(msg, hint="Protocol 3.0 to 3.2 is spoken here.")
    if not body.endswith(b"\0"):
        raise ProtocolError("startup packet does not end with a terminator")
    if body == b"\0":
        return StartupMessage(version, ())
    parts = body.split(b"\0")
    # name\0value\0…\0 splits into the pairs and two empty parts after them.
    if len(parts) % 2 or parts[-1] or parts[-2] or not all(parts[:-2:2]):
        raise ProtocolError("startup packet has an invalid layout")
    words = [part.decode("utf-8", "surrogateescape") for part in parts[:-2]]
    return StartupMessage(version, tuple(zip(words[::2], words[1::2], strict=True)))


class StartupReader:
    """Collects the bytes of one startup packet; holds at most 10,000 of them."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def first_byte(self) -> int | None:
        """The first byte received, to tell TLS from a startup packet."""
        return self._buffer[0] if self._buffer else None

    @property
    def received(self) -> bytes:
        """What has been received and not taken."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> StartupPacket | None:
        """Take bytes; return the packet once it is whole, leaving what follows it."""
        buffer = self._buffer
        buffer += data
        if len(buffer) < 4:
            return None
        (length,) = _LENGTH.unpack_from(buffer)
        if not 8 <= length <= MAX_STARTUP_PACKET_BYTES:
            msg = f"invalid length of startup packet: {length}"
            raise ProtocolError(msg, hint="Is this a PostgreSQL client?")
        if len(buffer) < length:
            return None
        packet = decode_startup_packet(bytes(buffer[4:length]))
        del buffer[:length]
        return packet

    def take_rest(self) -> bytes:
        """Hand over what followed the packet."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest


def _text(value: str) -> bytes:
    encoded = value.encode("utf-8", "surrogateescape")
    if b"\0" in encoded:
        raise ProtocolError("a startup parameter contains a zero byte")
    return encoded
