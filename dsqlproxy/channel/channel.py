"""One connection to a peer, over TCP or a unix socket, plain or under TLS.

A channel is used in two ways, one after the other. During a conversation (startup,
login) its holder calls `read`. When the relay begins, it calls `attach`: from then
on every chunk goes straight to the `Sink`, without a task or a future in between.
"""

import asyncio
import contextlib
import select
import ssl
from collections import deque
from collections.abc import Callable
from typing import cast

from dsqlproxy.channel.sink import Discard, Sink
from dsqlproxy.channel.tls import TlsPipe

MAILBOX_BYTES = 64 * 1024
"""Unread bytes above which a conversation stops reading its socket."""


class Channel(asyncio.Protocol):
    """One connection; whoever opened it closes it, by `close` or `abort`.

    ``read`` raises `ConnectionError` when the connection broke, and gives ``b""``
    when the peer ended it in order.
    """

    def __init__(
        self, *, on_connected: Callable[["Channel"], None] | None = None
    ) -> None:
        self._on_connected = on_connected
        self._on_end: Callable[[], None] | None = None
        self._transport: asyncio.Transport | None = None
        self._peer_address: object = None
        self._tls: TlsPipe | None = None
        self._sink: Sink | None = None
        self._mailbox: deque[bytes] = deque()
        self._mailbox_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._drain_waiter: asyncio.Future[None] | None = None
        self._closed: asyncio.Future[None] | None = None
        self.is_lost = False  # the connection is gone
        self._has_ended_writing = False  # by us: nothing more can be sent
        self._error: Exception | None = None
        self.has_ended = False
        """Whether the peer sends no more."""
        self.is_writing_paused = False

    # -- what the holder asks -----------------------------------------------------

    @property
    def peer_name(self) -> str:
        """The peer's address for logs: ``127.0.0.1:50112`` or ``unix``."""
        address = self._peer_address
        if isinstance(address, tuple):
            host = f"[{address[0]}]" if ":" in address[0] else address[0]
            return f"{host}:{address[1]}"
        return "unix"

    @property
    def is_tls(self) -> bool:
        """Whether bytes are encrypted on their way."""
        return self._tls is not None

    @property
    def tls(self) -> TlsPipe | None:
        """What encrypts, for who wants to know how; None for a plain connection."""
        return self._tls

    @property
    def alpn(self) -> str | None:
        """The application protocol chosen in the TLS handshake."""
        return self._tls.alpn if self._tls else None

    @property
    def is_closing(self) -> bool:
        """Whether nothing more can be sent."""
        return self._transport is None or self._transport.is_closing()

    @property
    def has_unread(self) -> bool:
        """Whether something came that `read` has not given yet."""
        return bool(self._mailbox)

    def has_incoming(self) -> bool:
        """Look whether the kernel has something of the peer's, or its end."""
        if self._transport is None or self.is_lost:
            return False
        connected = self._transport.get_extra_info("socket")
        if connected is None or connected.fileno() < 0:
            return False
        poll = select.poll()
        poll.register(connected.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    async def read(self) -> bytes:
        """Give the next bytes, in whatever portion they came; ``b""`` at the end."""
        while not self._mailbox:
            if self._error:
                raise ConnectionResetError("the connection broke") from self._error
            if self.has_ended or self.is_lost:
                return b""
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = self._mailbox.popleft()
        self._mailbox_bytes -= len(data)
        if self._mailbox_bytes <= MAILBOX_BYTES:
            self.resume_reading()
        return data

    def when_ended(self, callback: Callable[[], None] | None) -> None:
        """Have ``callback`` called once the peer is gone or sends no more.

        For who is busy with something else than this peer; None takes it back.
        """
        self._on_end = callback
        if callback is not None and (self.has_ended or self.is_lost):
            self._tell_ended()

    def unread(self, data: bytes) -> None:
        """Put bytes back in front of what is still to be read."""
        if data:
            self._mailbox.appendleft(data)
            self._mailbox_bytes += len(data)

    def write(self, data: bytes) -> None:
        """Send; silently nothing when the connection is gone."""
        transport = self._transport
        if transport is not None and not self._has_ended_writing and data:
            try:
                sent = data if self._tls is None else self._tls.encrypt(data)
            except ssl.SSLError as error:  # its TLS broke on what the peer sent
                self._fail(error)
            else:
                transport.write(sent)

    async def drain(self) -> None:
        """Wait until the peer has taken most of what was written."""
        while self.is_writing_paused and not self.is_lost:
            self._drain_waiter = asyncio.get_running_loop().create_future()
            try:
                await self._drain_waiter
            finally:
                self._drain_waiter = None

    async def start_tls(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
    ) -> None:
        """Put the connection under TLS; what was received and not read counts.

        Raises `ssl.SSLError` when the handshake fails (the alert has been sent),
        and `ConnectionError` when the peer leaves in its middle.
        """
        pipe = TlsPipe(
            context, server_side=server_side, server_hostname=server_hostname
        )
        data = b""
        if self._mailbox:
            data = await self.read()
        while True:
            try:
                is_done = pipe.handshake(data)
            finally:
                self.write(pipe.take_output())
            if is_done:
                break
            data = await self.read()
            if not data:
                raise ConnectionResetError("the peer left during the TLS handshake")
        early = self._empty_mailbox()
        self._tls = pipe
        self.data_received(early)

    def attach(self, sink: Sink) -> None:
        """Feed a sink from now on; it gets at once what was not read yet."""
        self._sink = sink
        rest = self._empty_mailbox()
        if rest:
            sink.received(rest)
        if self.is_writing_paused:
            sink.writing_paused()
        if self.is_lost:
            sink.lost(self._error)
        elif self.has_ended:
            sink.ended()

    def pause_reading(self) -> None:
        """Leave the peer's bytes in the kernel; it will feel it."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def end_writing(self) -> None:
        """Tell the peer that nothing more comes; what it sends is still read."""
        transport = self._transport
        if transport is None or transport.is_closing() or self._has_ended_writing:
            return
        self._say_goodbye()
        self._has_ended_writing = True
        if transport.can_write_eof():
            # asyncio's raises where the peer has reset the connection meanwhile.
            with contextlib.suppress(OSError):
                transport.write_eof()

    def close(self) -> None:
        """Send what is buffered, say goodbye in TLS, close; idempotent."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._say_goodbye()
        self._has_ended_writing = True
        transport.close()

    def abort(self) -> None:
        """Close at once; what is buffered is lost. Idempotent."""
        self._has_ended_writing = True
        # asyncio's transport fails when it is aborted after its end.
        if self._transport is not None and not self.is_lost:
            self._transport.abort()

    async def wait_closed(self) -> None:
        """Wait until the socket is gone, after `close` or `abort`."""
        if self._transport is None or self.is_lost:
            return
        if self._closed is None:
            self._closed = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._closed)

    async def close_within(self, seconds: float) -> None:
        """Close in order, or by force when the peer does not take the last bytes."""
        self.close()
        try:
            async with asyncio.timeout(seconds):
                await self.wait_closed()
        except TimeoutError:
            self.abort()
            await self.wait_closed()
        except asyncio.CancelledError:
            self.abort()
            raise

    async def linger(self, seconds: float, *, is_sending: bool = False) -> None:
        """End writing, and throw away what the peer still sends until it ends.

        For last words: closing a socket with unread bytes in it makes a reset, which
        can overtake them. And libpq that finds our end while it ``is_sending`` does
        not look for words before it: so that comes when the peer pauses.
        """
        ended = asyncio.Event()
        self._sink = discard = Discard()
        self._empty_mailbox()
        self.when_ended(ended.set)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                if is_sending:
                    await discard.wait_for_pause(ended)
                self.end_writing()
                await ended.wait()
        await self.close_within(seconds)

    # -- what the event loop tells -------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport (called by the event loop)."""
        # A cast and no check: uvloop's transports are not asyncio's class.
        self._transport = cast("asyncio.Transport", transport)
        # Now: uvloop does not know it any more once the connection is gone.
        self._peer_address = transport.get_extra_info("peername")
        # At 0 uvloop sends within the call and not in a later step of its loop, which
        # is cheaper; and a peer is held back as soon as the kernel's buffer is full.
        self._transport.set_write_buffer_limits(high=0)
        if self._on_connected is not None:
            self._on_connected(self)

    def data_received(self, data: bytes) -> None:
        """Decrypt, then hand on (called by the event loop)."""
        tls = self._tls
        if tls is None:
            if self._sink is not None:
                self._sink.received(data)
            else:
                self._keep(data)
            return
        try:
            data = tls.receive(data)
        except ssl.SSLError as error:
            self._fail(error)
            return
        if tls.outgoing.pending:
            self._send(tls.outgoing.read())
        if data:
            if self._sink is not None:
                self._sink.received(data)
            else:
                self._keep(data)
        if tls.is_ended:
            self._note_end()

    def eof_received(self) -> bool:
        """Keep the writing side open (called by the event loop)."""
        self._note_end()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end (called by the event loop, once)."""
        self.is_lost = self._has_ended_writing = True
        self._error = self._error or exc
        self.is_writing_paused = False
        for waiter in (self._waiter, self._drain_waiter, self._closed):
            if waiter is not None and not waiter.done():
                waiter.set_result(None)
        self._tell_ended()
        if self._sink is not None:
            self._sink.lost(self._error)
        # Let go. Sink, relay and channel know each other; as a cycle a session that
        # lived long would keep its TLS buffers until the next full collection, which
        # can be thousands of sessions away (measured: 50 KiB each).
        self._sink = self._on_connected = self._tls = None

    def pause_writing(self) -> None:
        """Note a full write buffer (called by the event loop)."""
        self.is_writing_paused = True
        if self._sink is not None:
            self._sink.writing_paused()

    def resume_writing(self) -> None:
        """Note an empty write buffer (called by the event loop)."""
        self.is_writing_paused = False
        if self._drain_waiter is not None and not self._drain_waiter.done():
            self._drain_waiter.set_result(None)
        if self._sink is not None:
            self._sink.writing_resumed()

    # -- inside --------------------------------------------------------------------

    def _keep(self, data: bytes) -> None:
        self._mailbox.append(data)
        self._mailbox_bytes += len(data)
        if self._mailbox_bytes > MAILBOX_BYTES:
            self.pause_reading()
        self._wake()

    def _empty_mailbox(self) -> bytes:
        rest = b"".join(self._mailbox)
        self._mailbox.clear()
        self._mailbox_bytes = 0
        self.resume_reading()
        return rest

    def _note_end(self) -> None:
        if self.has_ended:
            return
        self.has_ended = True
        self._wake()
        self._tell_ended()
        if self._sink is not None:
            self._sink.ended()

    def _fail(self, error: Exception) -> None:
        """End a connection whose TLS broke; send the alert that says so."""
        self._error = error
        if self._tls is not None:
            self._send(self._tls.take_output())
        self._has_ended_writing = True
        if self.is_writing_paused:
            self.abort()  # a peer that does not read would be waited for
        elif self._transport is not None:
            self._transport.close()
        self._wake()

    def _send(self, data: bytes) -> None:
        """Send bytes as they are."""
        if self._transport is not None and not self._has_ended_writing:
            self._transport.write(data)

    def _say_goodbye(self) -> None:
        if self._tls is not None:
            self._send(self._tls.close())

    def _tell_ended(self) -> None:
        if self._on_end is not None:
            on_end, self._on_end = self._on_end, None
            on_end()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
