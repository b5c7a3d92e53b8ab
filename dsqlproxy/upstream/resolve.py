"""From a host name to a connected socket.

A cluster's endpoint has IPv6 and IPv4 addresses, and a machine may have a way to
one family only (AWS documentation, "Troubleshooting": an IPv6-only answer on an
IPv4 host). So addresses are raced as RFC 8305 says; uvloop's create_connection
cannot do it.
"""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dsqlproxy.situations import network

STAGGER_SECONDS = 0.25
"""RFC 8305, section 5, "Connection Attempt Delay": recommended 250 ms."""

KEEPALIVE_IDLE_SECONDS = 60
KEEPALIVE_INTERVAL_SECONDS = 10
KEEPALIVE_PROBES = 6
"""Begins long before AWS's load balancers and NAT forget an idle flow (350 s)."""

UNACKNOWLEDGED_SECONDS = 360
"""How long sent bytes may wait for an acknowledgement (default: about 15 minutes).

Linux counts the time of a closed window too, and a cluster need not read while it
runs a statement, for which it has at most 5 minutes (AWS documentation, quotas).
Where it is set, it also takes the place of KEEPALIVE_PROBES.
"""

_RESOLVER_REASONS = {
    socket.EAI_NONAME: "the name does not exist",
    socket.EAI_AGAIN: "the name server did not answer",
    socket.EAI_FAIL: "the name server failed",
}


@dataclass(frozen=True, slots=True)
class Address:
    """One address to dial; ``sockaddr`` is what the socket call wants."""

    family: int
    sockaddr: tuple[Any, ...]

    def __str__(self) -> str:
        """Give ``host:port`` with an IPv6 host in brackets."""
        host, port = self.sockaddr[:2]
        return (
            f"[{host}]:{port}" if self.family == socket.AF_INET6 else f"{host}:{port}"
        )


Resolver = Callable[[str, int], Awaitable[Sequence[Address]]]
LookUp = Callable[[str, int], Awaitable[Sequence[tuple[Any, ...]]]]
"""Gives what ``getaddrinfo`` gives for stream sockets."""


async def resolve(
    host: str, port: int, *, look_up: LookUp | None = None
) -> Sequence[Address]:
    """Ask the system's resolver for the addresses of both families, best first.

    ``look_up`` is called instead of the event loop's ``getaddrinfo``, whose thread is
    waited for at the end of the loop, even when nobody wants its answer any more.
    """
    look_up = look_up or _look_up
    try:
        found = await look_up(host, port)
    except (OSError, UnicodeError) as error:
        code = error.errno if isinstance(error, OSError) else None
        reason = _RESOLVER_REASONS.get(code or 0, "the resolver failed")
        raise network.not_resolved(host, reason) from None
    return list(
        dict.fromkeys(
            Address(family, sockaddr)
            for family, _type, _protocol, _name, sockaddr in found
        )
    )


async def _look_up(host: str, port: int) -> Sequence[tuple[Any, ...]]:
    return await asyncio.get_running_loop().getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    )


def interleave(addresses: Iterable[Address]) -> list[Address]:
    """Alternate the families, beginning with the first address (RFC 8305, 4)."""
    by_family: dict[int, deque[Address]] = {}
    for address in addresses:
        by_family.setdefault(address.family, deque()).append(address)
    ordered: list[Address] = []
    while by_family:
        for family, waiting in list(by_family.items()):
            ordered.append(waiting.popleft())
            if not waiting:
                del by_family[family]
    return ordered


async def dial(
    addresses: Sequence[Address],
    *,
    name: str,
    stagger_seconds: float = STAGGER_SECONDS,
) -> tuple[socket.socket, Address]:
    """Connect to the first address that answers; the caller owns the socket.

    The next address is tried when the one before fails, or after
    ``stagger_seconds``. When all fail, `UpstreamUnavailable` says why of each, and
    ``name`` which host they belong to.
    """
    race = _Race()
    try:
        async with asyncio.TaskGroup() as group:
            attempts = []
            for address in interleave(addresses):
                settled = asyncio.Event()
                attempts.append(group.create_task(race.attempt(address, settled)))
                try:
                    async with asyncio.timeout(stagger_seconds):
                        await settled.wait()
                except TimeoutError:
                    pass  # slow, not failed: it goes on beside the next one
                if race.winner is not None:
                    break
            while race.winner is None and len(race.failures) < len(attempts):
                race.changed.clear()
                await race.changed.wait()
            for attempt in attempts:
                attempt.cancel()
    except BaseException:
        race.abandon()
        raise
    if race.winner is None:
        raise network.not_connected(name, race.failures)
    return race.winner


@dataclass(slots=True)
class _Race:
    """Attempts that run side by side, of which one may win."""

    winner: tuple[socket.socket, Address] | None = None
    failures: list[str] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def attempt(self, address: Address, settled: asyncio.Event) -> None:
        """Try one address; exactly one socket survives all attempts."""
        try:
            connected = await _connect(address)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else "no connection"
            self.failures.append(f"{address}: {reason}")
        else:
            if self.winner is None:
                self.winner = (connected, address)
            else:
                connected.close()
        settled.set()
        self.changed.set()

    def abandon(self) -> None:
        """Close what was won, since nobody will take it."""
        if self.winner is not None:
            self.winner[0].close()


async def _connect(address: Address) -> socket.socket:
    """Connect one socket, closed again if that fails or is cancelled."""
    connected = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        connected.setblocking(False)
        _tune(connected)
        await asyncio.get_running_loop().sock_connect(connected, address.sockaddr)
    except BaseException:
        connected.close()
        raise
    return connected


def _tune(connected: socket.socket) -> None:
    """Send at once, and notice a peer that is gone."""
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Names differ: macOS calls the first TCP_KEEPALIVE, and has no user timeout.
    for name, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE_SECONDS),
        ("TCP_KEEPALIVE", KEEPALIVE_IDLE_SECONDS),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL_SECONDS),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
        ("TCP_USER_TIMEOUT", UNACKNOWLEDGED_SECONDS * 1000),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            connected.setsockopt(socket.IPPROTO_TCP, option, value)
