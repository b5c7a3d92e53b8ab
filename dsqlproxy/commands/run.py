"""``dsqlproxy run``: the proxy itself."""

import argparse
import asyncio
import contextlib
import gc
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsqlproxy.commands import options
from dsqlproxy.commands.clocks import system_clocks
from dsqlproxy.errors import DsqlProxyError

if TYPE_CHECKING:
    from dsqlproxy.drain import Shutdown

LOADED_SECONDS = 5.0
"""After this all code is there; botocore's comes with the first credentials."""

HELP = """\
Run the proxy: listen, sign a token for each upstream login, and relay.

Any PostgreSQL client then connects to the listen address, without a password:

  dsqlproxy --config proxy.yaml
  psql -h 127.0.0.1 -U admin postgres

Without a file, one listener is described by flags:

  dsqlproxy --cluster ENDPOINT [--listen 127.0.0.1:5432] [--role admin]

A flag wins over the environment (DSQLPROXY_LISTENER_<KEY> and others), which
wins over the file, which wins over the default.

SIGTERM, SIGINT and SIGHUP end it in order: no new sessions, idle ones end at
once with SQLSTATE 57P01, busy ones when they become idle, all at
drain_timeout. A second signal ends it at once. Exit codes: 0 after an orderly
end, 1 failure, 2 bad usage or configuration, and when a second signal forced
the end 128 plus its number: 129 for SIGHUP, 130 for SIGINT, 143 for SIGTERM.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the flags."""
    options.add_config_arguments(parser)
    options.add_process_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    loaded = options.load(args)
    from dsqlproxy.app import Proxy  # noqa: PLC0415 - heavy
    from dsqlproxy.drain import Shutdown  # noqa: PLC0415
    from dsqlproxy.ops.log import configure_logging  # noqa: PLC0415

    config = loaded.config
    with configure_logging(
        level=config.log.level, log_format=config.log.format, stream=sys.stderr
    ) as log:
        for note in loaded.notes:
            log.warning("configuration", note=note)

        async def serve() -> int:
            proxy = Proxy(config, log=log, clocks=system_clocks())
            shutdown = Shutdown()
            keep_code_uncollected(after_seconds=LOADED_SECONDS)
            with forward_signals(shutdown), ready_file(args.ready_file) as write:
                await proxy.run(
                    shutdown, on_started=lambda started: write(started.as_dict())
                )
            return exit_code(shutdown)

        raise_file_limit()
        with asyncio.Runner(loop_factory=loop_factory(args.event_loop)) as runner:
            return runner.run(serve())


def raise_file_limit() -> None:
    """Raise the soft limit of open files to the hard one.

    A session has two sockets, and the usual soft limit of 1,024 would end a proxy
    at half of the default max_sessions.
    """
    try:
        import resource  # noqa: PLC0415 - not on every platform
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS has a lower true limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def keep_code_uncollected(*, after_seconds: float) -> None:
    """Have the garbage collector pass over what is there by then.

    A full collection looks at every module, class and function as well, none of which
    is ever garbage: 50 ms in which no session moves a byte (measured; five times what
    it takes without them).
    """
    asyncio.get_running_loop().call_later(after_seconds, gc.freeze)


def loop_factory(choice: str | None) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Give the maker of the event loop; None for asyncio's own."""
    if choice == "asyncio":
        return None
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        if choice == "uvloop":
            raise DsqlProxyError(
                "uvloop is not installed", hint="Use --event-loop asyncio"
            ) from None
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


@contextlib.contextmanager
def forward_signals(shutdown: "Shutdown") -> Iterator[None]:
    """Turn SIGTERM, SIGINT and SIGHUP into requests to end, on the running loop.

    SIGHUP comes when the terminal is closed; a program that was started by nohup
    ignores it, and still does.
    """
    loop = asyncio.get_running_loop()
    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, shutdown.request, number.name)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def this_program() -> str:
    """Give the word, or words, that start this program from any directory."""
    started = Path(sys.argv[0])
    if started.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m dsqlproxy"
    found = shutil.which(started.name)
    if found and Path(found).resolve() == started.resolve():
        return started.name
    return shlex.quote(str(started.absolute()))


def exit_code(shutdown: "Shutdown") -> int:
    """Give 0 after an orderly end, 128 plus the signal's number after a forced one."""
    if not shutdown.forced.is_set():
        return 0
    return 128 + signal.Signals[shutdown.force_reason].value


@contextlib.contextmanager
def ready_file(path: Path | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Give what writes the ready file; it goes at the end, if it was written here.

    A start that fails must not remove the file of another proxy that runs.
    """
    written = False

    def write(content: dict[str, Any]) -> None:
        nonlocal written
        if path is not None:
            write_ready_file(path, content)
            written = True

    try:
        yield write
    finally:
        if written and path is not None:
            path.unlink(missing_ok=True)


def write_ready_file(path: Path, content: dict[str, Any]) -> None:
    """Write the ready file so that no reader sees half of it."""
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file)
            file.write("\n")
        Path(name).replace(path)
    except OSError as error:
        raise DsqlProxyError(
            f"cannot write the ready file {path}: {error.strerror}",
            hint="Name a file in a directory that exists and is writable",
        ) from None
