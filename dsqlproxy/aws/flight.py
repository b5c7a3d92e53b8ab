"""A blocking call that is made once at a time, and given up when it hangs.

Whoever needs the outcome begins a flight or joins the one that is under way. There
is no task: the call runs on a thread, its end comes back to the event loop by a
callback, and so a flight needs nobody who waits for it.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Generic, TypeVar

from dsqlproxy.aws.workers import NoThreadError, Workers

T = TypeVar("T")


class Flights(Generic[T]):
    """Flights of one call, of which at most one is under way.

    ``on_end`` gets the result or the exception on the event loop, and ``on_late`` the
    result of a call that was given up and came to an end after all. A call that takes
    longer than ``limit_seconds`` is given up, with a TimeoutError; the thread stays
    busy until the call comes to its end. While ``max_hanging`` of them are, no new one
    begins, with a BlockingIOError. Whoever makes it calls `close`.
    """

    def __init__(
        self,
        call: Callable[[], T],
        *,
        on_end: Callable[[T | Exception], None],
        on_late: Callable[[T], None],
        limit_seconds: float,
        max_hanging: int,
    ) -> None:
        self._call = call
        self._on_end = on_end
        self._on_late = on_late
        self._limit_seconds = limit_seconds
        self._max_hanging = max_hanging
        self._workers = Workers(max_hanging, name="credentials")
        self._hanging = 0
        self._flight: Future[T] | None = None
        self._ended = asyncio.Event()
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether the call is being made, and not given up."""
        return self._flight is not None

    def begin(self) -> None:
        """Make the call, unless that is being done; called on the event loop."""
        if self._closed or self._flight is not None:
            return
        if self._hanging >= self._max_hanging:
            self._on_end(BlockingIOError())
            return
        loop = asyncio.get_running_loop()
        try:
            flight = self._flight = self._workers.submit(self._call)
        except NoThreadError as error:
            self._on_end(error)
            return
        self._timer = loop.call_later(self._limit_seconds, self._give_up)

        def come_back(_flight: Future[T]) -> None:
            # The loop may be closed when a call that hung comes to its end.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._land, flight)

        flight.add_done_callback(come_back)

    async def wait(self) -> None:
        """Wait until the flight that is under way has ended, or `close` is called."""
        if self._flight is not None:
            await self._ended.wait()

    def close(self) -> None:
        """Wake whoever waits; a call that is being made ends unseen."""
        self._closed = True
        self._finish()
        self._workers.close()

    def _land(self, flight: Future[T]) -> None:
        """Take the end of a call, on the event loop."""
        if self._closed:
            return
        error = flight.exception()
        if error is not None and not isinstance(error, Exception):
            error = RuntimeError(type(error).__name__)  # somebody's sys.exit()
        if flight is self._flight:
            self._finish()
            self._on_end(flight.result() if error is None else error)
            return
        self._hanging -= 1
        if error is None:
            self._on_late(flight.result())

    def _give_up(self) -> None:
        self._hanging += 1
        self._finish()
        self._on_end(TimeoutError())

    def _finish(self) -> None:
        """Make room for the next flight, and wake those who waited for this one.

        They run after `on_end`: to set an event schedules them, no more.
        """
        self._flight = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._ended.set()
        self._ended = asyncio.Event()
