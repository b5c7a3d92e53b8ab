"""A client of the emulator that says byte for byte what a test wants."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any, Self

from dsqlproxy.emulator.backend import BackendAddress
from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.server import Emulator, EmulatorConfig, wall_clock
from dsqlproxy.emulator.sigv4 import AccessKey
from dsqlproxy.pgproto.codes import BackendType, FrontendType
from dsqlproxy.pgproto.framing import Frame, frame
from dsqlproxy.pgproto.messages import (
    Authentication,
    BackendKeyData,
    ErrorResponse,
    ParameterStatus,
    PasswordMessage,
)
from dsqlproxy.pgproto.startup import (
    PROTOCOL_3_0,
    CancelRequest,
    ProtocolVersion,
    SSLRequest,
    StartupMessage,
)
from tests.kit.botocore_sessions import new_session
from tests.kit.scripted import Conversation, EndOfStream


@asynccontextmanager
async def started(
    postgres: EmbeddedPostgres | BackendAddress,
    *,
    clock: Callable[[], float] = wall_clock,
    **settings: Any,
) -> AsyncIterator[Emulator]:
    """Run an emulator, without the SQL rules unless asked for."""
    address = postgres.address if isinstance(postgres, EmbeddedPostgres) else postgres
    config = EmulatorConfig(**{"has_rules": False, **settings})
    async with Emulator(config, backend=address, clock=clock) as emulator:
        yield emulator


@lru_cache(maxsize=1)
def _signer(key: AccessKey) -> Any:
    session = new_session()
    session.set_credentials(key.access_key_id, key.secret_access_key, key.session_token)
    return session.create_client("dsql", region_name="us-east-1")


def sign(
    emulator: Emulator, user: str = "admin", *, host: str = "", expires: int = 60
) -> str:
    """Sign a token as users do."""
    signer = _signer(emulator.credentials)
    name = "generate_db_connect_auth_token"
    if user == "admin":
        name = "generate_db_connect_admin_auth_token"
    token = getattr(signer, name)(host or emulator.cluster, emulator.region, expires)
    return str(token)


class _ClientContext(ssl.SSLContext):
    """A context on which `Conversation` may set a callback that clients do not have."""

    sni_callback: Any = None


def tls_context(emulator: Emulator, *, alpn: bool = True) -> ssl.SSLContext:
    context = _ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cafile=str(emulator.ca_file))
    if alpn:
        context.set_alpn_protocols(["postgresql"])
    return context


class Client:
    """One connection to an emulator."""

    def __init__(self, emulator: Emulator, conversation: Conversation) -> None:
        self.emulator = emulator
        self.wire = conversation
        self.settings: dict[str, str] = {}
        self.key: BackendKeyData | None = None

    @classmethod
    @asynccontextmanager
    async def dial(cls, emulator: Emulator) -> "AsyncIterator[Self]":
        """Open a TCP connection and say nothing."""
        wire = await Conversation.dial(emulator.host, emulator.port)
        async with wire:
            yield cls(emulator, wire)

    @classmethod
    @asynccontextmanager
    async def secured(
        cls,
        emulator: Emulator,
        *,
        direct: bool = True,
        server_name: str = "",
        alpn: bool = True,
    ) -> "AsyncIterator[Self]":
        """Open a connection under TLS; an IP address as the name sends no SNI."""
        async with cls.dial(emulator) as client:
            if not direct:
                await client.wire.send(SSLRequest().encode())
                assert await client.wire.receive(1) == b"S"
            await client.wire.start_tls(
                tls_context(emulator, alpn=alpn),
                server_hostname=server_name or emulator.cluster,
            )
            yield client

    @classmethod
    @asynccontextmanager
    async def session(
        cls, emulator: Emulator, user: str = "admin", **parameters: str
    ) -> "AsyncIterator[Self]":
        """Open a session and wait until it is ready."""
        async with cls.secured(emulator) as client:
            await client.log_in(user, **parameters)
            yield client

    async def start(
        self,
        user: str = "admin",
        *,
        version: ProtocolVersion = PROTOCOL_3_0,
        database: str = "postgres",
        **parameters: str,
    ) -> None:
        named = {"user": user, "database": database, **parameters}
        pairs = tuple((name, value) for name, value in named.items() if value)
        await self.wire.send(StartupMessage(version, pairs).encode())

    async def log_in(
        self, user: str = "admin", *, token: str = "", **parameters: Any
    ) -> None:
        """Log in; the refusal of the emulator is an AssertionError of the test."""
        await self.start(user, **parameters)
        request = await self.wire.receive_frame()
        assert request == (
            BackendType.AUTHENTICATION,
            Authentication(3).encode()[5:],
        ), request
        await self.send_password(token or sign(self.emulator, user))
        await self.receive_greeting()

    async def send_password(self, password: str) -> None:
        await self.wire.send(PasswordMessage(password).encode())

    async def receive_greeting(self) -> None:
        for received in await self.receive_until_ready():
            match received.type:
                case BackendType.PARAMETER_STATUS:
                    status = ParameterStatus.decode(received.body)
                    self.settings[status.name] = status.value
                case BackendType.BACKEND_KEY_DATA:
                    self.key = BackendKeyData.decode(received.body)
                case BackendType.ERROR_RESPONSE:
                    raise AssertionError(ErrorResponse.decode(received.body))
                case _:
                    pass

    async def receive_until_ready(self) -> list[Frame]:
        frames: list[Frame] = []
        while not frames or frames[-1].type not in {
            BackendType.READY_FOR_QUERY,
            BackendType.ERROR_RESPONSE,
        }:
            frames.append(await self.wire.receive_frame())
        return frames

    async def refusal(self) -> ErrorResponse:
        """Give the FATAL that ends this connection, and see that it ends."""
        received = await self.wire.receive_frame()
        if received.type == BackendType.AUTHENTICATION:
            await self.send_password(sign(self.emulator))
            received = await self.wire.receive_frame()
        assert received.type == BackendType.ERROR_RESPONSE, received
        response = ErrorResponse.decode(received.body)
        assert response.severity == "FATAL"
        await self.wire.receive_end()
        return response

    async def send_query(self, sql: str) -> None:
        await self.wire.send(frame(FrontendType.QUERY, sql.encode() + b"\0"))

    async def query(self, sql: str) -> list[str]:
        """Give the first column of the answer."""
        await self.send_query(sql)
        values = []
        for kind, body in await self.receive_until_ready():
            if kind == BackendType.DATA_ROW:
                length = int.from_bytes(body[2:6])
                values.append(body[6 : 6 + length].decode())
            elif kind == BackendType.ERROR_RESPONSE:
                raise AssertionError(ErrorResponse.decode(body))
        return values

    def cancel_request(self) -> CancelRequest:
        assert self.key is not None
        return CancelRequest(self.key.process_id, self.key.secret_key)


async def received_before_reset(client: Client) -> bytes:
    """Read until the connection is reset; anything else is a failure of the test."""
    received = b""
    try:
        while True:
            received += await client.wire.receive(1)
    except ConnectionResetError:
        return received
    except EndOfStream:
        raise AssertionError("the connection ended in order") from None


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something has happened in it."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - anything may be waited for
            await asyncio.sleep(0)


async def ask_control(emulator: Emulator, *lines: str) -> list[str]:
    """Say lines to the control socket; give its answers."""
    reader, writer = await asyncio.open_unix_connection(str(emulator.control_path))
    writer.write("".join(f"{line}\n" for line in lines).encode())
    writer.write_eof()
    answers = (await reader.read()).decode().splitlines()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return answers
