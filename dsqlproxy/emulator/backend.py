"""The PostgreSQL behind the emulator: one connection to it for each session.

The embedded server trusts its unix socket. A server given by ``--backend`` may ask
for nothing (trust), a cleartext password or SCRAM-SHA-256; TLS and md5 are not
spoken, so it should be on the same machine.
"""

import asyncio
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self
from urllib.parse import parse_qs, unquote, urlsplit

from dsqlproxy.channel.channel import Channel
from dsqlproxy.dsql import DATABASE
from dsqlproxy.emulator.scram import MECHANISM, ScramClient
from dsqlproxy.errors import ConnectionLost, DsqlProxyError, Peer
from dsqlproxy.pgproto.codes import AuthenticationCode, BackendType, FrontendType
from dsqlproxy.pgproto.framing import Frame, FrameReader, frame
from dsqlproxy.pgproto.messages import (
    Authentication,
    BackendKeyData,
    ErrorResponse,
    PasswordMessage,
)
from dsqlproxy.pgproto.startup import PROTOCOL_3_0, CancelRequest, StartupMessage

ACCEPTED_URLS: Final = (
    "postgresql://[user[:password]@]host[:port][/database], or "
    "postgresql:///database?host=/directory for a unix socket"
)


class BackendRefused(DsqlProxyError):
    """The PostgreSQL behind the emulator did not let the session in."""

    def __init__(self, response: ErrorResponse) -> None:
        super().__init__(response.message)
        self.response = response


@dataclass(frozen=True, slots=True)
class BackendAddress:
    """Where a PostgreSQL is, and as whom to log in where that is not the role."""

    host: str = "127.0.0.1"
    port: int = 5432
    unix_path: Path | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    database: str | None = None

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read a connection URL; ValueError says what is accepted."""
        refused = ValueError(f"this is not a usable URL; accepted: {ACCEPTED_URLS}")
        try:
            parts = urlsplit(url)
            port = parts.port or 5432
            query = parse_qs(parts.query, strict_parsing=bool(parts.query))
        except ValueError:
            raise refused from None
        if parts.scheme not in {"postgresql", "postgres"} or parts.fragment:
            raise refused
        if query.keys() - {"host"}:
            raise refused
        host = query.get("host", [unquote(parts.hostname or "127.0.0.1")])[-1]
        socket = Path(host) / f".s.PGSQL.{port}" if host.startswith("/") else None
        return cls(
            host=host,
            port=port,
            unix_path=socket,
            user=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            database=unquote(parts.path.removeprefix("/")) or None,
        )


@dataclass(frozen=True, slots=True)
class Backend:
    """A session of the PostgreSQL behind us; whoever opened it closes its channel.

    ``greeting`` is all that came from AuthenticationOk to ReadyForQuery, both left
    out: ParameterStatus, notices, BackendKeyData.
    """

    channel: Channel
    greeting: tuple[Frame, ...]
    ready: Frame

    @property
    def key(self) -> BackendKeyData | None:
        """What a CancelRequest for this session must carry."""
        for kind, body in self.greeting:
            if kind == BackendType.BACKEND_KEY_DATA:
                return BackendKeyData.decode(body)
        return None


async def connect(address: BackendAddress) -> Channel:
    """Open a connection; OSError when there is no way."""
    loop = asyncio.get_running_loop()
    if address.unix_path is not None:
        _, channel = await loop.create_unix_connection(Channel, str(address.unix_path))
    else:
        _, channel = await loop.create_connection(Channel, address.host, address.port)
    return channel


async def open_backend(address: BackendAddress, startup: StartupMessage) -> Backend:
    """Log in; `BackendRefused` carries what the server said against it."""
    channel = await connect(address)
    try:
        channel.write(startup.encode())
        return await _Login(channel, address.password or "").run()
    except BaseException:
        channel.abort()
        raise


async def run_sql(backend: Backend, statement: str) -> bool:
    """Run a statement in a session that nobody else uses; tell if it gave a row.

    Raises `BackendRefused` for an error, once the session is ready again.
    """
    backend.channel.write(frame(FrontendType.QUERY, statement.encode() + b"\0"))
    frames = FrameReader()
    has_row = False
    refused: BackendRefused | None = None
    while True:
        received = await _next_frame(backend.channel, frames)
        match received.type:
            case BackendType.DATA_ROW:
                has_row = True
            case BackendType.ERROR_RESPONSE:
                refused = BackendRefused(ErrorResponse.decode(received.body))
            case BackendType.READY_FOR_QUERY:
                if refused:
                    raise refused
                return has_row
            case _:
                pass


async def execute(address: BackendAddress, *statements: str) -> None:
    """Run statements in a session of their own, each in its own transaction."""
    user = (("user", address.user or ""), ("database", address.database or DATABASE))
    backend = await open_backend(address, StartupMessage(PROTOCOL_3_0, user))
    try:
        for statement in statements:
            await run_sql(backend, statement)
    finally:
        backend.channel.abort()
        await backend.channel.wait_closed()


async def send_cancel(address: BackendAddress, request: CancelRequest) -> None:
    """Pass a CancelRequest on, and wait until the server has taken it."""
    channel = await connect(address)
    try:
        channel.write(request.encode())
        while await channel.read():
            pass
    finally:
        channel.abort()


class _Login:
    """The conversation from the startup packet to ReadyForQuery."""

    def __init__(self, channel: Channel, password: str) -> None:
        self._channel = channel
        self._password = password
        self._frames = FrameReader()
        self._scram: ScramClient | None = None

    async def run(self) -> Backend:
        greeting: list[Frame] = []
        while True:
            received = await _next_frame(self._channel, self._frames)
            match received.type:
                case BackendType.AUTHENTICATION:
                    self._answer(Authentication.decode(received.body))
                case BackendType.ERROR_RESPONSE:
                    raise BackendRefused(ErrorResponse.decode(received.body))
                case BackendType.READY_FOR_QUERY:
                    self._channel.unread(self._frames.take_rest())
                    return Backend(self._channel, tuple(greeting), received)
                case _:
                    greeting.append(received)

    def _answer(self, request: Authentication) -> None:
        match request.code:
            case AuthenticationCode.OK:
                pass
            case AuthenticationCode.CLEARTEXT_PASSWORD:
                self._channel.write(PasswordMessage(self._password).encode())
            case AuthenticationCode.SASL if MECHANISM.encode() in request.data.split(
                b"\0"
            ):
                self._scram = ScramClient(self._password, nonce=secrets.token_hex(16))
                first = self._scram.first()
                length = len(first).to_bytes(4, "big")
                self._send(MECHANISM.encode() + b"\0" + length + first)
            case AuthenticationCode.SASL_CONTINUE if self._scram:
                self._send(self._scram.final(request.data))
            case AuthenticationCode.SASL_FINAL if self._scram:
                self._scram.verify(request.data)
            case _:
                raise BackendRefused(
                    ErrorResponse.build(
                        "FATAL",
                        "28000",
                        "the PostgreSQL behind the emulator asks for an "
                        f"authentication it does not speak (code {request.code})",
                    )
                )

    def _send(self, body: bytes) -> None:
        self._channel.write(frame(FrontendType.PASSWORD, body))


async def _next_frame(channel: Channel, frames: FrameReader) -> Frame:
    received = frames.next_frame()
    while received is None:
        data = await channel.read()
        if not data:
            raise ConnectionLost(
                "the PostgreSQL behind the emulator closed the connection",
                peer=Peer.UPSTREAM,
            )
        received = frames.next_frame(data)
    return received
