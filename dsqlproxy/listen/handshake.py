"""How a client asks for a session: a linear machine (no I/O).

The current handler is the state. `receive` takes bytes and returns what is to be
done, in order; the shell in `admission.py` does it. What is accepted is what a
PostgreSQL server accepts (backend_startup.c, ProcessStartupPacket):

* SSLRequest once and GSSENCRequest once, in either order; TLS directly only as the
  very first thing, and with ALPN;
* nothing may follow such a request before its answer: it could have been injected
  by someone between the peers before encryption began (CVE-2021-23222);
* a CancelRequest or a StartupMessage after any of these.
"""

from collections.abc import Callable
from dataclasses import dataclass

from dsqlproxy.errors import ProtocolError
from dsqlproxy.pgproto.messages import NegotiateProtocolVersion
from dsqlproxy.pgproto.startup import (
    DIRECT_TLS_FIRST_BYTE,
    PROTOCOL_3_2,
    CancelRequest,
    GSSENCRequest,
    SSLRequest,
    StartupMessage,
    StartupReader,
)
from dsqlproxy.situations import startup as situations

ALPN = "postgresql"
"""The application protocol that PostgreSQL registered with IANA."""

_HTTP_STARTS = frozenset(
    (b"GET ", b"POST", b"HEAD", b"PUT ", b"DELE", b"OPTI", b"CONN", b"PATC", b"PRI ")
)

_ACCEPTED, _DECLINED = b"S", b"N"


@dataclass(frozen=True, slots=True)
class Reply:
    """Send these bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class NeedTls:
    """Begin TLS as its server; ``received`` is its first part, for direct TLS."""

    received: bytes = b""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Pass a cancel on, then close without a word."""

    request: CancelRequest


@dataclass(frozen=True, slots=True)
class Ready:
    """The client asks for a session; ``negotiation`` is to be sent first, if any."""

    startup: StartupMessage
    negotiation: NegotiateProtocolVersion | None


@dataclass(frozen=True, slots=True)
class Leave:
    """Close without a word: the peer would not understand one."""

    reason: str
    hint: str = ""


Step = Reply | NeedTls | Cancel | Ready | Leave


class ClientHandshake:
    """The first exchange with a client; `ProtocolError` where it breaks the rules."""

    def __init__(self, *, offers_tls: bool) -> None:
        self._offers_tls = offers_tls
        self._reader = StartupReader()
        self._receive: Callable[[bytes], list[Step]] = self._first_bytes
        self._ssl_asked = False
        self._gss_asked = False

    @property
    def has_begun(self) -> bool:
        """Whether the client has said anything at all."""
        return self._reader.first_byte is not None or self._ssl_asked or self._gss_asked

    @property
    def declined_tls(self) -> bool:
        """Whether the client asked for TLS in vain, and has said nothing since."""
        has_gone_on = self._reader.first_byte is not None
        return self._ssl_asked and not self._offers_tls and not has_gone_on

    def receive(self, data: bytes) -> list[Step]:
        """Take the client's next bytes."""
        return self._receive(data)

    def tls_started(self, *, alpn: str | None) -> None:
        """Note that TLS stands; without SSLRequest, ALPN must have been used."""
        if not self._ssl_asked and alpn != ALPN:
            # As PostgreSQL 17 does: it keeps other protocols' clients out.
            raise situations.no_alpn()
        self._ssl_asked = self._gss_asked = True
        self._receive = self._packet

    def _first_bytes(self, data: bytes) -> list[Step]:
        if data[:1] != bytes((DIRECT_TLS_FIRST_BYTE,)) or not self._offers_tls:
            self._receive = self._packet
            return self._packet(data)
        self._receive = self._waiting_for_tls
        return [NeedTls(data)]

    def _packet(self, data: bytes) -> list[Step]:
        unwanted = self._not_postgresql(self._reader.received + data)
        if unwanted is not None:
            self._receive = self._closing
            return [unwanted]
        try:
            packet = self._reader.feed(data)
        except ProtocolError as error:
            raise situations.explained(error) from None
        match packet:
            case None:
                return []
            case SSLRequest():
                return self._ssl_request()
            case GSSENCRequest():
                return self._gssenc_request()
            case CancelRequest():
                self._receive = self._closing
                return [Cancel(packet)]
            case StartupMessage():
                self._receive = self._closing
                return [Ready(packet, _negotiation(packet))]

    def _not_postgresql(self, data: bytes) -> Leave | None:
        """Tell a peer that speaks something else, before its bytes are a length."""
        if data[:1] == bytes((DIRECT_TLS_FIRST_BYTE,)):
            return Leave(*situations.tls_not_offered())
        if data[:4] in _HTTP_STARTS:
            return Leave(*situations.speaks_http())
        return None

    def _ssl_request(self) -> list[Step]:
        if self._ssl_asked:
            raise situations.asked_twice("SSLRequest")
        self._ssl_asked = True
        self._refuse_early_data("SSL")
        if not self._offers_tls:
            return [Reply(_DECLINED)]
        self._receive = self._waiting_for_tls
        return [Reply(_ACCEPTED), NeedTls()]

    def _gssenc_request(self) -> list[Step]:
        if self._gss_asked:
            raise situations.asked_twice("GSSENCRequest")
        self._gss_asked = True
        self._refuse_early_data("GSSAPI encryption")
        return [Reply(_DECLINED)]

    def _refuse_early_data(self, what: str) -> None:
        if self._reader.take_rest():
            raise situations.data_before_encryption(what)

    def _waiting_for_tls(self, _data: bytes) -> list[Step]:
        raise AssertionError("no plain bytes here because TLS is being set up")

    def _closing(self, data: bytes) -> list[Step]:
        raise AssertionError(f"{len(data)} bytes too many because the handshake ended")

    def take_rest(self) -> bytes:
        """Hand over what followed the startup packet."""
        return self._reader.take_rest()


def _negotiation(startup: StartupMessage) -> NegotiateProtocolVersion | None:
    """Answer a version or an option that is not known here, as PostgreSQL 18 does."""
    is_newer = startup.version > PROTOCOL_3_2
    if not is_newer and not startup.protocol_options:
        return None
    version = PROTOCOL_3_2 if is_newer else startup.version
    return NegotiateProtocolVersion(version, startup.protocol_options)
