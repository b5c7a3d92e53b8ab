"""The composition root: what starts, what does not, and that all of it ends."""

import asyncio
import json
import os
import stat
from pathlib import Path

import pytest
import trustme

from dsqlproxy.app import MAX_WAITING, Bound, Started
from dsqlproxy.channel.channel import Channel
from dsqlproxy.config import Config, TcpAddress, UnixAddress
from dsqlproxy.drain import Shutdown
from dsqlproxy.emulator.server import Emulator
from dsqlproxy.errors import ConfigError, DsqlProxyError
from tests.end_to_end.conftest import emulator, postgres, proxy
from tests.end_to_end.wire import RawClient, logged, until
from tests.kit.stack import RunningProxy, config_for, running_proxy

__all__ = ("emulator", "postgres", "proxy")  # fixtures that are borrowed


def both(first: Config, second: Config) -> Config:
    """Give the configuration with the listeners of two."""
    listeners = (
        *(each.model_copy(update={"name": "one"}) for each in first.listeners),
        *(each.model_copy(update={"name": "two"}) for each in second.listeners),
    )
    return first.model_copy(update={"listeners": listeners})


def test_the_ready_file_says_where_it_listens() -> None:
    started = Started(
        (
            Bound("tcp", TcpAddress("::1", 5432)),
            Bound("unix", UnixAddress("/run/x/.s.PGSQL.5432")),
        ),
        TcpAddress("127.0.0.1", 9090),
    )
    assert json.loads(json.dumps(started.as_dict())) == {
        "pid": os.getpid(),
        "listeners": [
            {"name": "tcp", "host": "::1", "port": 5432, "unix": None},
            {
                "name": "unix",
                "host": None,
                "port": None,
                "unix": "/run/x/.s.PGSQL.5432",
            },
        ],
        "admin": {"host": "127.0.0.1", "port": 9090},
    }
    assert Started((), None).as_dict()["admin"] is None


async def test_shutdown_is_asked_for_once_and_forced_after_that() -> None:
    shutdown = Shutdown()
    shutdown.request("SIGTERM")
    assert shutdown.begun.is_set()
    assert not shutdown.forced.is_set()
    shutdown.request("SIGINT")
    shutdown.request("SIGTERM")
    assert shutdown.forced.is_set()
    assert (shutdown.reason, shutdown.force_reason) == ("SIGTERM", "SIGINT")


async def test_several_listeners_serve_side_by_side(
    emulator: Emulator, tmp_path: Path
) -> None:
    config = both(
        config_for(emulator, role="admin"),
        config_for(emulator, listen=f"unix:{tmp_path}"),
    )
    async with running_proxy(emulator, config=config) as proxy:
        path = tmp_path / ".s.PGSQL.5432"
        assert stat.S_ISSOCK(path.stat().st_mode)
        async with RawClient.session(proxy, user="anyone") as client:
            assert await client.ask("select current_user") == ["admin"]
        listening = [
            line for line in proxy.log.getvalue().splitlines() if " listening " in line
        ]
        assert [("listener=one" in line) for line in listening] == [True, False]
    assert not path.exists()


async def test_one_address_that_cannot_be_had_leaves_none_taken(
    emulator: Emulator, proxy: RunningProxy, tmp_path: Path
) -> None:
    config = both(
        config_for(emulator, listen=f"unix:{tmp_path}"),
        config_for(emulator, listen=str(proxy.address)),
    )
    with pytest.raises(ExceptionGroup) as caught:
        async with running_proxy(emulator, config=config):
            raise AssertionError("unreachable because the port is taken")
    (error,) = caught.value.exceptions
    assert isinstance(error, DsqlProxyError)
    assert "the address is taken" in error.message
    assert "--listen 127.0.0.1:0" in error.hint
    assert os.listdir(tmp_path) == []


async def test_what_cannot_work_is_refused_before_anything_begins(
    emulator: Emulator, tmp_path: Path
) -> None:
    good = trustme.CA().issue_cert("x.example").private_key_and_cert_chain_pem
    file = tmp_path / "changed.pem"
    files = {"cert_file": str(file), "key_file": str(file)}
    for settings in ({"ca_file": str(file)}, {"client_tls": files}):
        good.write_to_path(str(file))
        config = config_for(emulator, **settings)
        file.write_text("no certificate")  # after the configuration was read
        with pytest.raises(ConfigError, match=r"changed\.pem"):
            async with running_proxy(emulator, config=config):
                raise AssertionError("unreachable because the file is no PEM")


async def test_remote_clients_are_warned_of(emulator: Emulator) -> None:
    async with running_proxy(
        emulator, listen="0.0.0.0:0", allow_remote_trust=True
    ) as proxy:
        line = await logged(proxy, "WARNING remote clients are trusted")
        assert "hint=" in line


async def test_a_connection_accepted_as_the_listener_closes_is_closed(
    proxy: RunningProxy,
) -> None:
    # It came after the sessions had been told to end, so nobody told it: it went on
    # as if nothing were, and held up the end for the whole of drain_timeout.
    async with RawClient.session(proxy) as busy:
        await busy.ask("begin")
        proxy.shutdown.request("SIGTERM")
        await logged(proxy, "draining")
        accepted = asyncio.get_running_loop().create_future()
        services = proxy.proxy._services["main"]

        def on_connected(channel: Channel) -> None:
            proxy.proxy._accept(channel, services)
            accepted.set_result(channel)

        server = await asyncio.get_running_loop().create_server(
            lambda: Channel(on_connected=on_connected), "127.0.0.1", 0
        )
        async with server:
            host, port = server.sockets[0].getsockname()
            async with await RawClient.dial(host, port) as late:
                await accepted
                await late.receive_end()
        assert len(proxy.proxy._sessions) == 1


async def test_those_who_only_connect_do_not_use_up_all_files(
    proxy: RunningProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MAX_WAITING == 2000
    monkeypatch.setattr("dsqlproxy.app.MAX_WAITING", 3)
    async with (
        RawClient.session(proxy) as session,
        RawClient.connect(proxy),
        RawClient.connect(proxy),
        RawClient.connect(proxy),
    ):
        await until(lambda: len(proxy.proxy._sessions) == 4)
        async with RawClient.connect(proxy) as one_more:
            await one_more.receive_end()
        await logged(proxy, "WARNING too many connections before login waiting=3")
        assert await session.ask("select 1") == ["1"]


async def test_a_drain_that_goes_on_says_so(
    proxy: RunningProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsqlproxy.drain.PROGRESS_SECONDS", 0.05)
    async with RawClient.session(proxy) as busy:
        await busy.ask("begin")
        proxy.shutdown.request("SIGTERM")
        await until(lambda: proxy.log.getvalue().count("draining sessions=1") > 2)


async def test_a_drain_that_has_to_wait_says_at_once_for_whom_and_how_long(
    proxy: RunningProxy,
) -> None:
    async with RawClient.session(proxy) as busy, RawClient.session(proxy):
        await busy.ask("begin")
        proxy.shutdown.request("SIGTERM")
        first = await logged(proxy, "draining reason")
        assert first.endswith("draining reason=SIGTERM sessions=2 deadline=25.0")
        assert "second" not in first
        progress = await logged(proxy, "draining sessions")
        assert "draining sessions=2 busy=1 deadline=25.0 " in progress
        assert progress.endswith('hint="a second signal ends it now"')


async def test_a_drain_that_runs_out_says_so(emulator: Emulator) -> None:
    async with running_proxy(emulator, drain_timeout="100ms") as proxy:
        async with RawClient.session(proxy) as busy, RawClient.session(proxy):
            await busy.ask("begin")
            proxy.shutdown.request("SIGTERM")
            line = await logged(proxy, "drain timeout reached")
        assert line.endswith("WARNING drain timeout reached sessions=1")


async def test_a_drain_without_busy_sessions_is_only_begun_and_over(
    emulator: Emulator,
) -> None:
    async with running_proxy(emulator, drain_timeout=0) as proxy:
        async with RawClient.session(proxy) as client:
            proxy.shutdown.request("SIGTERM")
            await client.receive_rest()
        await logged(proxy, "INFO stopped")
        assert proxy.log.getvalue().count(" drain") == 1
        await logged(
            proxy, r" INFO ending session=\w+ state=idle code=57P01 age=[0-9.]+ mess"
        )
        assert " WARNING " not in proxy.log.getvalue()


async def test_the_end_of_the_busy_is_a_warning(emulator: Emulator) -> None:
    async with (
        running_proxy(emulator, drain_timeout=0) as proxy,
        RawClient.session(proxy) as client,
    ):
        await client.ask("begin")
        proxy.shutdown.request("SIGTERM")
        line = await logged(proxy, "WARNING ending.*state=in_transaction.*57P01")
        assert 'hint="Reconnect when it is running again."' in line
