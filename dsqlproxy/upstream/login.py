"""The login conversation with a cluster, from startup to ReadyForQuery. No I/O.

A linear machine: the current handler is the state. ::

    asked ──AuthenticationCleartextPassword──> sent ──AuthenticationOk──> greeting
      └────────────────AuthenticationOk─────────────────────────────────────┘
    greeting ──ReadyForQuery──> done

The token is a password that the cluster reads in the clear, under TLS (AWS
documentation; no other authentication has ever been seen). A peer that asks for
anything else is not a cluster, or not one that this proxy understands: it never
gets the token.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from dsqlproxy.errors import ProtocolError, UpstreamRejected
from dsqlproxy.pgproto.codes import AuthenticationCode, BackendType, TransactionStatus
from dsqlproxy.pgproto.framing import Frame, FrameReader
from dsqlproxy.pgproto.messages import (
    Authentication,
    BackendKeyData,
    ErrorResponse,
    NegotiateProtocolVersion,
    NoticeResponse,
    ParameterStatus,
    ReadyForQuery,
)
from dsqlproxy.situations import network

MAX_FRAME_BYTES = 64 * 1024
"""No message of a login comes near this; libpq allows an error 30,000 bytes."""

MAX_PARAMETERS = 256
"""PostgreSQL 18 reports 15; all of its settings are about 400."""

MAX_NOTICES = 32
"""More are dropped: a remark is not worth the memory."""


@dataclass(frozen=True, slots=True)
class PasswordWanted:
    """The cluster asks for the token: answer with a PasswordMessage."""


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """The cluster waits for the first request; what it said until then."""

    parameters: tuple[ParameterStatus, ...]
    key: BackendKeyData | None
    notices: tuple[NoticeResponse, ...]
    status: TransactionStatus


LoginEvent = PasswordWanted | LoggedIn
_Handler = Callable[[Frame], LoginEvent | None]


class Login:
    """One login. Feed it what the cluster sends until it gives `LoggedIn`.

    Raises `UpstreamRejected` with the cluster's own error, and `ProtocolError` for
    what does not belong into a login; both end it.
    """

    def __init__(self) -> None:
        self._reader = FrameReader(max_bytes=MAX_FRAME_BYTES)
        self._handler: _Handler = self._expect_request
        self._parameters: dict[str, ParameterStatus] = {}
        self._key: BackendKeyData | None = None
        self._notices: list[NoticeResponse] = []

    def receive(self, data: bytes) -> list[LoginEvent]:
        """Take the next bytes; return what the caller has to act on."""
        try:
            return self._receive(data)
        except ProtocolError as error:
            if error.hint:
                raise  # it says all there is to say
            raise network.not_a_login(error.message) from None

    def _receive(self, data: bytes) -> list[LoginEvent]:
        events: list[LoginEvent] = []
        frame = self._reader.next_frame(data)
        while frame is not None:
            event = self._take(frame)
            if event is not None:
                events.append(event)
            if isinstance(event, LoggedIn):
                break  # what follows belongs to the session
            frame = self._reader.next_frame()
        return events

    def take_rest(self) -> bytes:
        """Hand over what came after ReadyForQuery."""
        return self._reader.take_rest()

    def _take(self, frame: Frame) -> LoginEvent | None:
        """Deal with what may come at any time; the rest is the state's."""
        if frame.type == BackendType.ERROR_RESPONSE:
            raise rejection(frame.body)
        if frame.type == BackendType.NOTICE_RESPONSE:
            if len(self._notices) < MAX_NOTICES:
                self._notices.append(NoticeResponse.decode(frame.body))
            return None
        return self._handler(frame)

    def _expect_request(self, frame: Frame) -> LoginEvent | None:
        """Wait for what the cluster wants to see first."""
        if frame.type == BackendType.NEGOTIATE_PROTOCOL_VERSION:
            _check_negotiation(frame)
            return None
        code = _authentication_code(frame)
        if code == AuthenticationCode.CLEARTEXT_PASSWORD:
            self._handler = self._expect_verdict
            return PasswordWanted()
        self._accept(code)
        return None

    def _expect_verdict(self, frame: Frame) -> None:
        """Wait for the cluster to judge the token."""
        self._accept(_authentication_code(frame))

    def _accept(self, code: int) -> None:
        """Go on if the code is Ok; nothing else may stand here."""
        if code != AuthenticationCode.OK:
            raise _unsupported(code)
        self._handler = self._expect_greeting

    def _expect_greeting(self, frame: Frame) -> LoginEvent | None:
        """Collect settings and key until the cluster is ready."""
        if frame.type == BackendType.PARAMETER_STATUS:
            parameter = ParameterStatus.decode(frame.body)
            self._parameters[parameter.name] = parameter
            if len(self._parameters) > MAX_PARAMETERS:
                raise ProtocolError("it reports too many parameters")
        elif frame.type == BackendType.BACKEND_KEY_DATA:
            self._key = BackendKeyData.decode(frame.body)
        elif frame.type == BackendType.READY_FOR_QUERY:
            return LoggedIn(
                parameters=tuple(self._parameters.values()),
                key=self._key,
                notices=tuple(self._notices),
                status=ReadyForQuery.decode(frame.body).status,
            )
        else:
            raise _unexpected(frame)
        return None


def rejection(body: bytes) -> UpstreamRejected:
    """Make the exception of an ErrorResponse; its fields stay as they were sent."""
    error = ErrorResponse.decode(body)
    return UpstreamRejected(
        error.message or "the cluster refused the login", fields=error.fields
    )


def _authentication_code(frame: Frame) -> int:
    if frame.type != BackendType.AUTHENTICATION:
        raise _unexpected(frame)
    return Authentication.decode(frame.body).code


def _check_negotiation(frame: Frame) -> None:
    """Let pass what changes nothing: we asked for 3.0 and no options."""
    offered = NegotiateProtocolVersion.decode(frame.body)
    if offered.version.major != 3 or offered.unknown_options:
        raise ProtocolError(
            "it answered a request for protocol 3.0 with another version"
        )


def _unsupported(code: int) -> ProtocolError:
    name = f"number {code}"
    with suppress(ValueError):
        name = AuthenticationCode(code).name.replace("_", " ").lower()
    return network.other_authentication(name)


def _unexpected(frame: Frame) -> ProtocolError:
    return ProtocolError(f"it sent an unexpected message: {chr(frame.type)!r}")
