"""The messages that the proxy itself reads or writes, as frozen values.

Everything else crosses as bytes. ``encode`` gives the whole frame, ``decode``
takes a body; field names are those of the PostgreSQL manual, "Message Formats".
Text crosses as UTF-8 with surrogate escapes: bytes of any encoding survive.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import Self

from dsqlproxy.errors import ProtocolError
from dsqlproxy.pgproto.codes import (
    AuthenticationCode,
    BackendType,
    FrontendType,
    TransactionStatus,
)
from dsqlproxy.pgproto.framing import frame
from dsqlproxy.pgproto.startup import ProtocolVersion

_WORD = Struct("!I")
_TWO_WORDS = Struct("!II")

TERMINATE = frame(FrontendType.TERMINATE)
SYNC = frame(FrontendType.SYNC)


@dataclass(frozen=True, slots=True)
class Authentication:
    """Any of the AuthenticationXXX messages; ``data`` is what follows the code."""

    code: int
    data: bytes = b""

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read the code; an unknown one is kept as a number."""
        if len(body) < 4:
            raise ProtocolError("authentication request is too short")
        return cls(_WORD.unpack_from(body)[0], body[4:])

    def encode(self) -> bytes:
        """Give the frame."""
        return frame(BackendType.AUTHENTICATION, _WORD.pack(self.code) + self.data)


AUTHENTICATION_OK = Authentication(AuthenticationCode.OK)


@dataclass(frozen=True, slots=True)
class PasswordMessage:
    """The answer to a password request; for us, the token."""

    password: str = field(repr=False)

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read the zero-terminated password."""
        return cls(_strings(body, count=1)[0])

    def encode(self) -> bytes:
        """Give the frame."""
        return frame(FrontendType.PASSWORD, _cstring(self.password))


@dataclass(frozen=True, slots=True)
class ParameterStatus:
    """A run-time parameter that the server reports."""

    name: str
    value: str

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read name and value."""
        name, value = _strings(body, count=2)
        return cls(name, value)

    def encode(self) -> bytes:
        """Give the frame."""
        return frame(
            BackendType.PARAMETER_STATUS, _cstring(self.name) + _cstring(self.value)
        )


@dataclass(frozen=True, slots=True)
class BackendKeyData:
    """What a CancelRequest must carry; 4 key bytes in 3.0, up to 256 in 3.2."""

    process_id: int
    secret_key: bytes = field(repr=False)

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read the process id; all that follows is the key."""
        if not 8 <= len(body) <= 260:
            raise ProtocolError("cancel key has an invalid length")
        return cls(_WORD.unpack_from(body)[0], body[4:])

    def encode(self) -> bytes:
        """Give the frame."""
        return frame(
            BackendType.BACKEND_KEY_DATA, _WORD.pack(self.process_id) + self.secret_key
        )


@dataclass(frozen=True, slots=True)
class ReadyForQuery:
    """The server waits for a request; its transaction status."""

    status: TransactionStatus

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read the status byte."""
        try:
            (status,) = body
            return cls(TransactionStatus(status))
        except ValueError:
            raise ProtocolError("invalid transaction status") from None

    def encode(self) -> bytes:
        """Give the frame."""
        return frame(BackendType.READY_FOR_QUERY, bytes((self.status,)))


@dataclass(frozen=True, slots=True)
class NegotiateProtocolVersion:
    """The newest version the server speaks, and the options it does not know."""

    version: ProtocolVersion
    unknown_options: tuple[str, ...] = ()

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read the version word and the counted names."""
        if len(body) < _TWO_WORDS.size:
            raise ProtocolError("protocol negotiation is too short")
        word, count = _TWO_WORDS.unpack_from(body)
        if count > len(body):
            raise ProtocolError("protocol negotiation has an invalid count")
        names = _strings(body[8:], count=count)
        return cls(ProtocolVersion.from_word(word), tuple(names))

    def encode(self) -> bytes:
        """Give the frame."""
        names = b"".join(_cstring(name) for name in self.unknown_options)
        return frame(
            BackendType.NEGOTIATE_PROTOCOL_VERSION,
            _TWO_WORDS.pack(self.version.word, len(self.unknown_options)) + names,
        )


@dataclass(frozen=True, slots=True)
class _Fields:
    """What ErrorResponse and NoticeResponse share: coded fields, in order.

    Codes are those of the manual, "Error and Notice Message Fields": S and V
    severity, C SQLSTATE, M message, D detail, H hint, W context.
    """

    fields: tuple[tuple[str, str], ...]

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read the fields; a body without the final zero is refused."""
        return cls(tuple(_coded_fields(body)))

    @classmethod
    def build(
        cls, severity: str, sqlstate: str, message: str, *, detail: str = "",
        hint: str = "",
    ) -> Self:  # fmt: skip
        """Make the fields of a message of ours; empty ones are left out."""
        coded = (
            ("S", severity), ("V", severity), ("C", sqlstate), ("M", message),
            ("D", detail), ("H", hint),
        )  # fmt: skip
        return cls(tuple((code, value) for code, value in coded if value))

    def get(self, code: str) -> str:
        """Give the first field of that code, or an empty text."""
        return next((value for known, value in self.fields if known == code), "")

    @property
    def severity(self) -> str:
        """ERROR, FATAL, …; the untranslated one where the server sends it."""
        return self.get("V") or self.get("S")

    @property
    def sqlstate(self) -> str:
        """The five characters that programs decide by."""
        return self.get("C")

    @property
    def message(self) -> str:
        """The primary, human-readable text."""
        return self.get("M")

    @property
    def detail(self) -> str:
        """The secondary text."""
        return self.get("D")

    @property
    def hint(self) -> str:
        """What to do about it."""
        return self.get("H")

    def _body(self) -> bytes:
        # latin-1: a code is one byte, whichever a server may invent.
        parts = (
            code.encode("latin-1") + _cstring(value) for code, value in self.fields
        )
        return b"".join(parts) + b"\0"


@dataclass(frozen=True, slots=True)
class ErrorResponse(_Fields):
    """Something failed; FATAL also ends the session."""

    def encode(self) -> bytes:
        """Give the frame."""
        return frame(BackendType.ERROR_RESPONSE, self._body())


@dataclass(frozen=True, slots=True)
class NoticeResponse(_Fields):
    """A remark that ends nothing."""

    def encode(self) -> bytes:
        """Give the frame."""
        return frame(BackendType.NOTICE_RESPONSE, self._body())


FrontendMessage = PasswordMessage
BackendMessage = (
    Authentication
    | BackendKeyData
    | ErrorResponse
    | NegotiateProtocolVersion
    | NoticeResponse
    | ParameterStatus
    | ReadyForQuery
)


def _cstring(text: str) -> bytes:
    encoded = text.encode("utf-8", "surrogateescape")
    if b"\0" in encoded:
        raise ProtocolError("a text of the protocol contains a zero byte")
    return encoded + b"\0"


def _strings(body: bytes, *, count: int) -> list[str]:
    parts = body.split(b"\0")
    if len(parts) != count + 1 or parts[-1]:
        raise ProtocolError("a message has an invalid layout")
    return [part.decode("utf-8", "surrogateescape") for part in parts[:-1]]


def _coded_fields(body: bytes) -> Iterator[tuple[str, str]]:
    # A zero after each field and one after the last.
    if body != b"\0" and not body.endswith(b"\0\0"):
        raise ProtocolError("an error or notice has no terminator")
    for part in body[:-1].split(b"\0")[:-1]:
        if not part:
            raise ProtocolError("an error or notice has an empty field")
        yield chr(part[0]), part[1:].decode("utf-8", "surrogateescape")
