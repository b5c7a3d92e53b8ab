"""A few threads for calls that block and cannot be interrupted."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

_Job = tuple["Future[Any]", Callable[[], Any]]


class NoThreadError(Exception):
    """The system gives this process no more threads, or memory for one."""


class Workers:
    """Runs calls on at most ``count`` daemon threads, started as they are needed.

    Not a ThreadPoolExecutor, because the interpreter waits for that one's threads
    when it ends: an AWS ``credential_process`` that hangs (it has no time limit)
    would keep a stopped proxy alive. Whoever makes it calls `close`.
    """

    def __init__(self, count: int, *, name: str) -> None:
        self._count = count
        self._name = name
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._closed = False

    async def run(self, call: Callable[[], T]) -> T:
        """Wait for ``call`` on one of the threads.

        Cancelled, it stops waiting; a call that has begun runs to its end unseen.
        """
        return await asyncio.wrap_future(self.submit(call))

    def submit(self, call: Callable[[], T]) -> "Future[T]":
        """Have ``call`` made on one of the threads; its result comes in the future.

        Raises `NoThreadError` where that cannot be, and RuntimeError after `close`.
        """
        if self._closed:
            msg = f"{self._name} workers are closed"
            raise RuntimeError(msg)
        if len(self._threads) < self._count:
            thread = threading.Thread(
                target=_work,
                args=(self._jobs,),
                name=f"{self._name}-{len(self._threads)}",
                daemon=True,
            )
            try:
                thread.start()
            except (RuntimeError, MemoryError):
                raise NoThreadError from None
            self._threads.append(thread)
        future: Future[T] = Future()
        self._jobs.put((future, call))
        return future

    def close(self) -> None:
        """Let the threads end after what they are doing; does not wait for them."""
        if not self._closed:
            self._closed = True
            for _ in self._threads:
                self._jobs.put(None)


def _work(jobs: SimpleQueue[_Job | None]) -> None:
    """Do jobs until None comes."""
    while (job := jobs.get()) is not None:
        future, call = job
        if future.set_running_or_notify_cancel():
            try:
                result = call()
            except BaseException as error:  # noqa: BLE001 - belongs to the waiter
                future.set_exception(error)
            else:
                future.set_result(result)
                del result
        # While the thread waits for the next job it must not keep this one alive.
        del job, future, call
