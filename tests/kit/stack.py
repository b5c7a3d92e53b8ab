"""A real proxy before a real emulator before a real PostgreSQL, in the test's loop."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from dsqlproxy.app import Proxy, Started
from dsqlproxy.aws.credentials import Credentials, StaticCredentials
from dsqlproxy.aws.secret import Secret
from dsqlproxy.aws.signer import Signer
from dsqlproxy.aws.tokens import TokenSource
from dsqlproxy.clocks import Clocks
from dsqlproxy.commands.clocks import system_clocks
from dsqlproxy.config import Config, TcpAddress, UnixAddress
from dsqlproxy.drain import Shutdown
from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.server import Emulator, EmulatorConfig
from dsqlproxy.ops.log import configure_logging
from dsqlproxy.session.lifetime import SwapWindow

AN_AGE = 1e9
"""In a window: never."""


def storm() -> SwapWindow:
    """Give the window of a storm: a swap at every quiet moment, and no end."""
    return SwapWindow(
        warm_seconds=0,
        insist_seconds=0,
        last_start_seconds=AN_AGE,
        dead_seconds=AN_AGE,
        settle_seconds=0.001,
    )


@dataclass(frozen=True, slots=True)
class RunningProxy:
    """A proxy that listens, and what a test wants of it."""

    proxy: Proxy
    started: Started
    shutdown: Shutdown
    log: io.StringIO

    @property
    def address(self) -> TcpAddress | UnixAddress:
        return self.started.listeners[0].address

    @property
    def host(self) -> str:
        if isinstance(self.address, UnixAddress):
            return self.address.path.rpartition("/")[0]
        return self.address.host

    @property
    def port(self) -> int:
        if isinstance(self.address, UnixAddress):
            return int(self.address.path.rpartition(".")[2])
        return self.address.port

    def dsn(self, **parameters: object) -> str:
        """Give a libpq connection string; parameters add to it or replace."""
        words: dict[str, object] = {
            "host": self.host,
            "port": self.port,
            "user": "admin",
            "dbname": "postgres",
            "connect_timeout": 10,
            **parameters,
        }
        return " ".join(f"{key}='{value}'" for key, value in words.items())

    def environment(self, **variables: str) -> dict[str, str]:
        """Give PG* variables for a program."""
        return {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": "admin",
            "PGDATABASE": "postgres",
            **variables,
        }


@asynccontextmanager
async def running_emulator(
    postgres: EmbeddedPostgres, **settings: Any
) -> AsyncIterator[Emulator]:
    """Run an emulator; settings are those of `EmulatorConfig`."""
    async with Emulator(
        EmulatorConfig(**settings), backend=postgres.address
    ) as emulator:
        yield emulator


def config_for(emulator: Emulator, **settings: Any) -> Config:
    """Give the configuration of a proxy for an emulator.

    ``admin``, ``log`` and the drain keys go to the top, all else to the listener.
    """
    top: dict[str, Any] = {"admin": {"listen": "off"}, "log": {"level": "debug"}}
    for key in ("admin", "drain_delay", "drain_timeout"):
        if key in settings:
            top[key] = settings.pop(key)
    listener = {
        "name": "main",
        "listen": "127.0.0.1:0",
        "cluster": emulator.cluster,
        "connect_address": f"{emulator.host}:{emulator.port}",
        "ca_file": str(emulator.ca_file),
        **settings,
    }
    return Config.model_validate({"listeners": [listener], **top})


@asynccontextmanager
async def running_proxy(
    emulator: Emulator,
    *,
    config: Config | None = None,
    new_window: Callable[[], SwapWindow] | None = None,
    **settings: Any,
) -> AsyncIterator[RunningProxy]:
    """Run a proxy before an emulator, with keys that this takes.

    ``new_window`` gives the windows of its upstreams instead of those that follow
    from ``session_limit``: `storm`, for example.
    """
    keys = emulator.credentials
    credentials = StaticCredentials.of(
        keys.access_key_id, keys.secret_access_key, keys.session_token
    )
    config = config or config_for(emulator, **settings)
    async with serving(
        config, credentials=credentials, new_window=new_window
    ) as running:
        yield running


@cache
def _sign_once() -> None:
    """Have the first token of this process behind us.

    What it imports and reads takes longer than some tests hold their clients.
    """
    signer = Signer(Credentials("AKIAIOSFODNN7EXAMPLE", Secret("none")), "us-east-1")
    signer.sign(host="none.example", role="admin", lifetime_seconds=60)


@asynccontextmanager
async def serving(
    config: Config,
    *,
    clocks: Clocks | None = None,
    credentials: StaticCredentials | None = None,
    new_window: Callable[[], SwapWindow] | None = None,
    prepare: Callable[[TokenSource], None] = lambda _: None,
) -> AsyncIterator[RunningProxy]:
    """Run a proxy; it has ended when the context has.

    Without ``credentials`` it finds them in this process's environment, by sources
    that ``prepare`` may change before they are used.
    """
    _sign_once()
    stream = io.StringIO()
    with configure_logging(level="debug", log_format="text", stream=stream) as log:
        proxy = Proxy(
            config, log=log, clocks=clocks or system_clocks(), credentials=credentials
        )
        if new_window is not None:
            for name, services in proxy._services.items():
                proxy._services[name] = replace(services, new_window=new_window)
        for source in proxy._tokens.values():
            prepare(source)
        shutdown = Shutdown()
        started: asyncio.Future[Started] = asyncio.get_running_loop().create_future()
        async with asyncio.TaskGroup() as group:
            group.create_task(proxy.run(shutdown, on_started=started.set_result))
            try:
                yield RunningProxy(proxy, await started, shutdown, stream)
            finally:
                if not shutdown.begun.is_set():
                    shutdown.request("test")
                shutdown.request("test")
