"""Asking the event loop from another thread, without trusting it to answer."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Final, TypeVar

T = TypeVar("T")

ANSWER_SECONDS: Final = 2.0
"""How long the loop may take to answer before it counts as stuck.

A hundred times what a healthy loop needs under load, and short enough for a probe
with a limit of three seconds to hear "stuck" rather than nothing.
"""


class LoopStuckError(Exception):
    """The event loop did not answer in time, or has ended."""


class LoopBridge:
    """Runs small functions on the loop's thread and waits for what they give.

    ``close`` may be called from the loop's own thread: whoever waits is released
    at once, so joining those threads afterwards cannot deadlock.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, answer_seconds: float = ANSWER_SECONDS
    ) -> None:
        self._loop = loop
        self._answer_seconds = answer_seconds
        self._lock = threading.Lock()
        self._waiting: set[Future[None]] = set()
        self._is_closed = False

    def call(self, function: Callable[[], T]) -> T:
        """Give what the function returns on the loop, or raise what it raises.

        Raises LoopStuckError when the loop does not come round in time; the
        function is then not run any more.
        """
        turn: Future[None] = Future()
        answer: Future[T] = Future()

        def take_turn() -> None:
            if not turn.set_running_or_notify_cancel():
                return
            try:
                answer.set_result(function())
            except Exception as error:  # noqa: BLE001 - belongs to the caller
                answer.set_exception(error)
            turn.set_result(None)

        with self._lock:
            if self._is_closed:
                raise LoopStuckError("the proxy is ending")
            self._waiting.add(turn)
        try:
            self._loop.call_soon_threadsafe(take_turn)
            turn.result(self._answer_seconds)
        except TimeoutError:
            turn.cancel()
            raise LoopStuckError(
                f"the event loop did not answer within {self._answer_seconds:g} s"
            ) from None
        except (CancelledError, RuntimeError):
            # Cancelled by close, or the loop is closed already.
            raise LoopStuckError("the proxy is ending") from None
        finally:
            with self._lock:
                self._waiting.discard(turn)
        return answer.result()

    def close(self) -> None:
        """Release everybody who waits; later calls are refused."""
        with self._lock:
            self._is_closed = True
            for turn in self._waiting:
                turn.cancel()
