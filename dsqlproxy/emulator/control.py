"""The control socket: faults and questions for a running emulator, line by line.

::

    fault NAME[:ARG]        put a fault in force         -> ok …
    clear                   end all faults
    expire-sessions         end every open session without a word
    fatal-sessions SQLSTATE end every open session with a FATAL
    status                  counts and faults in force, as JSON

Each line is answered by one that begins with ``ok`` or ``error``.
"""

import json
from collections.abc import Sequence
from typing import Final, Protocol

from dsqlproxy.channel.channel import Channel
from dsqlproxy.emulator.faults import Fault, check_fault

_MAX_LINE_BYTES: Final = 4096


class Controls(Protocol):
    """What the control socket can do; the emulator."""

    def add_fault(self, word: str) -> None:
        """Put a fault in force; ValueError for a word that is none."""

    def clear_faults(self) -> None:
        """End every fault."""

    def expire_sessions(self) -> int:
        """End every open session without a word; tell how many."""

    def end_sessions(self, sqlstate: str) -> int:
        """End every open session with a FATAL; tell how many."""

    def status(self) -> dict[str, object]:
        """Give counts and faults in force."""


async def serve_control(channel: Channel, controls: Controls) -> None:
    """Answer the lines of one connection until it ends."""
    buffer = b""
    try:
        while data := await channel.read():
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                answer = answer_line(line.decode("utf-8", "replace"), controls)
                channel.write(answer.encode() + b"\n")
            if len(buffer) > _MAX_LINE_BYTES:
                channel.write(b"error the line is too long\n")
                break
        await channel.drain()
    except ConnectionError:
        pass  # who asked has left
    finally:
        await channel.close_within(1.0)


def answer_line(line: str, controls: Controls) -> str:
    """Do what one line says; give the answer without its line feed."""
    try:
        return f"ok {_obey(line.split(), controls)}".rstrip()
    except ValueError as error:
        return f"error {error}"


def _obey(words: Sequence[str], controls: Controls) -> str:
    match words:
        case ["fault", word]:
            controls.add_fault(word)
            return word
        case ["clear"]:
            controls.clear_faults()
            return ""
        case ["expire-sessions"]:
            return f"{controls.expire_sessions()} sessions"
        case ["fatal-sessions", sqlstate]:
            check_fault(f"{Fault.FATAL}:{sqlstate}")
            return f"{controls.end_sessions(sqlstate)} sessions"
        case ["status"]:
            return json.dumps(controls.status())
        case _:
            raise ValueError(
                "accepted: fault NAME[:ARG], clear, expire-sessions, "
                "fatal-sessions SQLSTATE, status"
            )
