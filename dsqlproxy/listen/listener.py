"""One bound address: TCP or a unix socket. It accepts; what follows is not its own."""

import asyncio
import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

from dsqlproxy.channel.channel import Channel
from dsqlproxy.config import TcpAddress, UnixAddress
from dsqlproxy.errors import DsqlProxyError

_BACKLOG = 1024
"""Connections that may wait to be accepted: a pool of a thousand opens at once."""

_FREE_PORT_ATTEMPTS = 10
"""A port that is free for the first address of a name may be taken for the second."""


class Listener:
    """Binds one address and hands each accepted connection to ``on_accept``.

    ``bind`` then ``start``; ``close`` stops accepting, keeps what was accepted, and
    removes the unix socket. Raises `DsqlProxyError` when the address cannot be had.
    """

    def __init__(
        self,
        address: TcpAddress | UnixAddress,
        *,
        name: str,
        on_accept: Callable[[Channel], None],
        unix_mode: int = 0o600,
    ) -> None:
        self._address = address
        self.name = name
        self._on_accept = on_accept
        self._unix_mode = unix_mode
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._inode: tuple[int, int] | None = None
        self.bound = address
        """Where it listens; after `bind` with the true port."""

    def bind(self) -> None:
        """Take the address, without accepting yet."""
        if isinstance(self._address, UnixAddress):
            self._sockets.append(self._bind_unix(self._address))
            return
        attempts = 1 if self._address.port else _FREE_PORT_ATTEMPTS
        while True:
            attempts -= 1
            try:
                self._bind_tcp(self._address)
            except OSError as error:
                self._close_sockets()
                if attempts and error.errno == errno.EADDRINUSE:
                    continue
                raise _cannot_listen(str(self._address), error) from None
            return

    async def start(self) -> None:
        """Accept."""
        loop = asyncio.get_running_loop()
        for bound in self._sockets:
            is_unix = bound.family == socket.AF_UNIX
            create = loop.create_unix_server if is_unix else loop.create_server
            self._servers.append(
                await create(self._new_channel, sock=bound, backlog=_BACKLOG)
            )

    def close(self) -> None:
        """Stop accepting; idempotent."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        self._close_sockets()
        self._remove_unix_socket()

    def _new_channel(self) -> Channel:
        return Channel(on_connected=self._on_accept)

    def _bind_tcp(self, address: TcpAddress) -> None:
        """Bind every address of the name; "localhost" often has two."""
        port = address.port
        found = socket.getaddrinfo(
            address.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        families: set[int] = set()
        for family, kind, protocol, _, target in found:
            if family in families:
                continue
            try:
                bound = socket.socket(family, kind, protocol)
            except OSError:
                continue  # this machine has no IPv6, say
            self._sockets.append(bound)
            families.add(family)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # For a quick restart; unlike SO_REUSEPORT it cannot share a port.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Inherited by what is accepted: a client that vanished is noticed.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            bound.setblocking(False)
            try:
                bound.bind((target[0], port, *target[2:]))
            except OSError as error:
                # A name with an address that is not configured here (::1 in many
                # containers) is served on the others.
                if error.errno != errno.EADDRNOTAVAIL or len(found) == 1:
                    raise
                self._sockets.remove(bound)
                bound.close()
                continue
            bound.listen(_BACKLOG)
            port = bound.getsockname()[1]
        if not self._sockets:
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
        self.bound = TcpAddress(address.host, port)

    def _bind_unix(self, address: UnixAddress) -> socket.socket:
        path = Path(address.path)
        _remove_stale_socket(path)
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # The mode must hold from the first moment on, not from a chmod later.
        umask = os.umask(0o777 & ~self._unix_mode)
        try:
            bound.bind(address.path)
            bound.listen(_BACKLOG)
            bound.setblocking(False)
        except OSError as error:
            bound.close()
            raise _cannot_listen(str(address), error) from None
        finally:
            os.umask(umask)
        status = path.stat()
        self._inode = (status.st_dev, status.st_ino)
        return bound

    def _close_sockets(self) -> None:
        for bound in self._sockets:
            bound.close()
        self._sockets.clear()

    def _remove_unix_socket(self) -> None:
        """Remove our socket file, unless another took its place."""
        if self._inode is None or not isinstance(self._address, UnixAddress):
            return
        path = Path(self._address.path)
        with contextlib.suppress(OSError):
            status = path.stat()
            if (status.st_dev, status.st_ino) == self._inode:
                path.unlink()
        self._inode = None


def _remove_stale_socket(path: Path) -> None:
    """Remove a socket file to which nobody listens any more."""
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            return  # bind will say that the address is taken
    except OSError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            with contextlib.suppress(OSError):  # not ours to remove; bind will say
                path.unlink()
        except OSError:
            pass  # alive or not ours to judge; bind will say


def _cannot_listen(address: str, error: OSError) -> DsqlProxyError:
    if error.errno == errno.EADDRINUSE and address.startswith("unix:"):
        return DsqlProxyError(
            f"cannot listen on {address}: the address is taken",
            detail="Another process serves this socket, or the file is no socket of"
            " ours to remove",
            hint="Stop that process, or use another path",
        )
    if error.errno == errno.EADDRINUSE:
        return DsqlProxyError(
            f"cannot listen on {address}: the address is taken",
            detail="Another program listens there, perhaps a local PostgreSQL or"
            " another dsqlproxy",
            hint="Stop it, or listen elsewhere: --listen 127.0.0.1:0 takes any free"
            " port",
        )
    if error.errno == errno.EACCES:
        hint = "Ports below 1024 and other users' directories need more rights"
    elif error.errno == errno.ENOENT:
        hint = "Make the directory first"
    else:
        hint = "Use an address of this machine, such as 127.0.0.1"
    reason = error.strerror or str(error)  # a path too long has no errno
    return DsqlProxyError(f"cannot listen on {address}: {reason}", hint=hint)
