import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import uvloop

from dsqlproxy.errors import UpstreamUnavailable
from dsqlproxy.upstream.resolve import (
    KEEPALIVE_IDLE_SECONDS,
    KEEPALIVE_INTERVAL_SECONDS,
    UNACKNOWLEDGED_SECONDS,
    Address,
    _Race,
    dial,
    interleave,
    resolve,
)
from tests.kit.scripted import Conversation, listen_but_never_accept, scripted_server


def v4(host: str, port: int = 5432) -> Address:
    return Address(socket.AF_INET, (host, port))


def v6(host: str, port: int = 5432) -> Address:
    return Address(socket.AF_INET6, (host, port, 0, 0))


@contextmanager
def refusing_port(host: str = "127.0.0.1") -> Iterator[int]:
    """Give a port that is bound and not listened on, so nobody else gets it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as bound:
        bound.bind((host, 0))
        yield bound.getsockname()[1]


@asynccontextmanager
async def silent_address() -> AsyncIterator[Address]:
    """Give an address whose handshake gets no answer: a full backlog."""
    loop = asyncio.get_running_loop()
    with listen_but_never_accept() as deaf:
        deaf.listen(0)
        fillers = []
        try:
            for _ in range(8):
                filler = socket.socket()
                filler.setblocking(False)
                fillers.append(filler)
                try:
                    async with asyncio.timeout(0.02):
                        await loop.sock_connect(filler, deaf.getsockname())
                except TimeoutError:
                    break
            yield v4(*deaf.getsockname())
        finally:
            for filler in fillers:
                filler.close()


async def until_end(peer: Conversation) -> None:
    await peer.receive_end()


def test_addresses_print_as_host_and_port() -> None:
    assert str(v4("127.0.0.1")) == "127.0.0.1:5432"
    assert str(v6("::1")) == "[::1]:5432"


def test_families_alternate_beginning_with_the_first() -> None:
    six, four = [v6("::1"), v6("::2"), v6("::3")], [v4("1.1.1.1")]
    assert interleave([*six, *four]) == [six[0], four[0], six[1], six[2]]
    assert interleave([*four, *six]) == [four[0], *six]
    assert interleave([]) == []


async def test_both_families_are_resolved_once_each() -> None:
    assert list(await resolve("127.0.0.1", 5432)) == [v4("127.0.0.1")]
    assert list(await resolve("::1", 5432)) == [v6("::1")]


async def test_another_look_up_may_be_given() -> None:
    async def look_up(host: str, port: int) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"for {host}", port))]

    assert list(await resolve("x", 5432, look_up=look_up)) == [v4("for x")]


@pytest.mark.parametrize("name", ["does-not-exist.invalid", "x" * 70 + ".com"])
async def test_unknown_name_is_told(name: str) -> None:
    with pytest.raises(UpstreamUnavailable, match="could not resolve") as caught:
        await resolve(name, 5432)
    assert name in caught.value.message
    assert "DNS" in caught.value.hint


async def test_first_address_that_answers_wins() -> None:
    async with scripted_server(until_end) as server:
        good = v4(server.host, server.port)
        connected, address = await dial([good], name="x")
        connected.close()
        assert address == good


@pytest.mark.parametrize("good_family", [socket.AF_INET, socket.AF_INET6])
async def test_one_family_may_fail(good_family: int) -> None:
    good_host, bad_host = ("127.0.0.1", "::1")
    if good_family == socket.AF_INET6:
        good_host, bad_host = bad_host, good_host
    async with scripted_server(until_end, host=good_host) as server:
        with refusing_port(bad_host) as port:
            make = (v6, v4) if good_family == socket.AF_INET else (v4, v6)
            bad, good = make[0](bad_host, port), make[1](good_host, server.port)
            async with asyncio.timeout(5):
                # Far beyond the limit: failing, not waiting, starts the next one.
                connected, address = await dial(
                    [bad, good], name="x", stagger_seconds=60
                )
        connected.close()
        assert address == good


async def test_a_silent_address_does_not_hold_up_the_next() -> None:
    async with scripted_server(until_end) as server, silent_address() as silent:
        good = v4(server.host, server.port)
        connected, address = await dial([silent, good], name="x", stagger_seconds=0.01)
        connected.close()
        assert address == good


async def test_of_two_winners_one_socket_is_left() -> None:
    async with scripted_server(until_end) as server:
        both = [v4(server.host, server.port), v4(server.host, server.port)]
        connected, _ = await dial(both, name="x", stagger_seconds=0)
        connected.close()
    gc.collect()  # an unclosed socket is a warning, and that an error


async def test_the_second_winner_is_closed_and_the_first_if_nobody_takes_it() -> None:
    async with scripted_server(until_end) as server:
        race = _Race()
        address = v4(server.host, server.port)
        await race.attempt(address, asyncio.Event())
        winner = race.winner
        await race.attempt(address, asyncio.Event())
        assert race.winner is winner
        race.abandon()
    gc.collect()


async def test_when_all_fail_each_says_why() -> None:
    with refusing_port() as first, refusing_port("::1") as second:
        addresses = [v4("127.0.0.1", first), v6("::1", second)]
        with pytest.raises(UpstreamUnavailable, match="could not connect") as caught:
            await dial(addresses, name="cluster:5432")
    assert "cluster:5432" in caught.value.message
    assert f"127.0.0.1:{first}: Connection refused" in caught.value.detail
    assert f"[::1]:{second}: Connection refused" in caught.value.detail


async def test_no_address_is_told() -> None:
    with pytest.raises(UpstreamUnavailable, match="no address"):
        await dial([], name="x")


async def test_cancelled_dial_leaves_no_socket() -> None:
    async with silent_address() as silent:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await dial([silent, silent], name="x", stagger_seconds=0.01)
    gc.collect()
    assert len(asyncio.all_tasks()) == 1


async def test_socket_notices_a_peer_that_is_gone() -> None:
    async with scripted_server(until_end) as server:
        connected, _ = await dial([v4(server.host, server.port)], name="x")
        with connected:
            assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TCP_KEEPIDLE", 60),
        ("TCP_KEEPINTVL", 10),
        ("TCP_KEEPCNT", 6),
        ("TCP_USER_TIMEOUT", 360_000),
    ],
)
async def test_the_kernel_is_told_when_to_look_after_a_silent_peer(
    name: str, value: int
) -> None:
    option = getattr(socket, name, None)
    if option is None:
        pytest.skip(f"{name} is not an option of this platform")
    async with scripted_server(until_end) as server:
        connected, _ = await dial([v4(server.host, server.port)], name="x")
        with connected:
            assert connected.getsockopt(socket.IPPROTO_TCP, option) == value


def test_an_idle_flow_is_kept_alive_before_nat_forgets_it() -> None:
    # AWS documentation: a network load balancer and a NAT gateway forget a flow that
    # is idle for 350 s, and answer its next packet with a reset or not at all. Two
    # probes may be lost before that.
    probes_seconds = 2 * KEEPALIVE_INTERVAL_SECONDS
    assert KEEPALIVE_IDLE_SECONDS + probes_seconds < 350


def test_a_statement_that_runs_as_long_as_it_may_is_not_taken_for_a_dead_peer() -> None:
    # AWS documentation, quotas: 5 minutes.
    assert UNACKNOWLEDGED_SECONDS > 300


async def test_an_error_without_a_number_has_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_socket(*_: object) -> socket.socket:
        raise OSError("s3cret")

    monkeypatch.setattr(socket, "socket", no_socket)
    with pytest.raises(UpstreamUnavailable, match="no connection") as caught:
        await dial([v4("127.0.0.1")], name="x")
    monkeypatch.undo()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "claim",
    [
        test_first_address_that_answers_wins,
        test_a_silent_address_does_not_hold_up_the_next,
        test_of_two_winners_one_socket_is_left,
        test_when_all_fail_each_says_why,
        test_cancelled_dial_leaves_no_socket,
        test_both_families_are_resolved_once_each,
    ],
)
def test_the_same_holds_on_uvloop(
    claim: Callable[[], Coroutine[None, None, None]],
) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(claim())
