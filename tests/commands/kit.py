"""Running a command as the command line would, on a thread beside the loop."""

import argparse
import asyncio
from collections.abc import Callable
from typing import Protocol

from dsqlproxy.config.addresses import TcpAddress


class Command(Protocol):
    """A file of ``dsqlproxy.commands``."""

    @property
    def add_arguments(self) -> Callable[[argparse.ArgumentParser], None]: ...

    @property
    def run(self) -> Callable[[argparse.Namespace], int]: ...


class HasAddress(Protocol):
    """A proxy whose admin listener is bound."""

    @property
    def address(self) -> TcpAddress: ...


def parse(command: Command, *words: str) -> argparse.Namespace:
    """Give the command's arguments."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(words)


async def run_command(command: Command, *words: str) -> int:
    """Run the command to its exit code while the loop goes on."""
    return await asyncio.to_thread(command.run, parse(command, *words))


def admin_of(proxy: HasAddress) -> tuple[str, str]:
    """Give the flag that names this proxy."""
    return "--admin", str(proxy.address)
