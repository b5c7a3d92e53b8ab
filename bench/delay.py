"""A TCP forwarder that delays every byte: a cluster that is far away.

    python -m bench.delay --to HOST:PORT --seconds 0.03 --ready-file PATH

Each direction is late by so many seconds, in order and without a limit of bandwidth.
Only TCP's own handshake is as quick as on the loopback interface. It runs until it
is told to stop by a signal.
"""

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.processes import running, wait_until

_CHUNK_BYTES = 64 << 10
_MOST_CHUNKS = 1024
"""In flight in one direction of one connection; then its sender is not read."""


async def _delay(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, seconds: float
) -> None:
    """Pass on one direction, up to its end."""
    loop = asyncio.get_running_loop()
    flight: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_MOST_CHUNKS)

    async def take() -> None:
        data = b"?"
        while data:
            try:
                data = await reader.read(_CHUNK_BYTES)
            except OSError:
                data = b""
            await flight.put((loop.time() + seconds, data))

    async def give() -> None:
        while True:
            due, data = await flight.get()
            await asyncio.sleep(due - loop.time())
            if not data:
                return
            writer.write(data)
            await writer.drain()

    async with asyncio.TaskGroup() as group:
        taking = group.create_task(take())
        with contextlib.suppress(OSError):
            await give()
            writer.write_eof()
        taking.cancel()


class _Forwarder:
    def __init__(self, host: str, port: int, *, seconds: float) -> None:
        self._host = host
        self._port = port
        self._seconds = seconds

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Forward one connection; the callback of a server."""
        try:
            far_reader, far_writer = await asyncio.open_connection(
                self._host, self._port
            )
        except OSError:
            writer.close()
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_delay(reader, far_writer, seconds=self._seconds))
                group.create_task(_delay(far_reader, writer, seconds=self._seconds))
        finally:
            far_writer.close()
            writer.close()


@contextlib.contextmanager
def far_away(home: Path, *, to: str, seconds: float) -> Iterator[int]:
    """Run a forwarder; give its port. Its files go to ``home``, its own directory."""
    ready_file, log_file = home / "port", home / "log"
    command = [sys.executable, "-m", "bench.delay", "--to", to]
    command += ["--seconds", str(seconds), "--ready-file", str(ready_file)]
    with running(command, log_file=log_file) as process:
        wait_until(
            lambda: ready_file.exists() and ready_file.stat().st_size > 0,
            process,
            log_file=log_file,
        )
        yield int(ready_file.read_text())


async def _run(to: str, *, seconds: float, ready_file: Path) -> None:
    host, _, port = to.rpartition(":")
    forwarder = _Forwarder(host, int(port), seconds=seconds)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await asyncio.start_server(forwarder.serve, "127.0.0.1", 0)
    bound = server.sockets[0].getsockname()[1]
    ready_file.write_text(str(bound))  # noqa: ASYNC240 - before anything is served
    await stop.wait()


def main() -> int:
    """Run the command; give its exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.delay", description=__doc__)
    parser.add_argument("--to", required=True, metavar="HOST:PORT")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--ready-file", type=Path, required=True)
    args = parser.parse_args()
    asyncio.run(_run(args.to, seconds=args.seconds, ready_file=args.ready_file))
    return 0


if __name__ == "__main__":
    sys.exit(main())
