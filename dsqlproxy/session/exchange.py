"""Private conversations: what the proxy itself asks an upstream.

With the old upstream through its relay, which is paused and gives the answers here
(`Exchange`); with a new one directly (`converse`). What is asked and how answers
are read is written in `replay.py`.
"""

import asyncio
import contextlib
from collections.abc import Callable

from dsqlproxy.channel.channel import Channel
from dsqlproxy.errors import SwapError
from dsqlproxy.session.replay import Answers, Replica, Request

SETTLE_SECONDS = 5.0
"""How long an upstream may take to finish a private answer that came to nothing."""

ANSWER_SECONDS = 10.0
"""How long a new upstream may take to answer; nobody waits for it but the keeper."""


class Exchange:
    """One question to the upstream of a paused relay.

    What an upstream says of itself at any time (NoticeResponse, ParameterStatus,
    NotificationResponse) goes to ``on_aside``, as frames, in order; what it says after
    its last answer to ``on_done``. Once an answer is not what it must be, nobody can
    tell where the last one ends: what still comes goes nowhere, and the upstream is
    of no more use.
    """

    def __init__(
        self,
        answers: Answers,
        *,
        on_aside: Callable[[bytes], None],
        on_done: Callable[[bytes], None],
    ) -> None:
        self._answers = answers
        self._on_aside = on_aside
        self._on_done = on_done
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def received(self, data: bytes) -> None:
        """Take the upstream's bytes."""
        if self._done.done():
            return
        error: SwapError | None = None
        try:
            self._answers.receive(data)
        except SwapError as failure:
            error = failure
        for frame in self._answers.take_asides():
            self._on_aside(frame)
        if error is not None or self._answers.is_done:
            self._settle(error)

    def lost(self) -> None:
        """Learn that no answer comes any more."""
        self._settle(SwapError("the upstream was lost"))

    @property
    def is_answered(self) -> bool:
        """Whether all answers came, as they should."""
        return self._answers.is_done

    @property
    def is_broken(self) -> bool:
        """Whether it ended before all answers came."""
        return self._done.done() and not self._answers.is_done

    async def wait(self) -> None:
        """Wait for all answers; `SwapError` if they are not what they must be.

        Who stops waiting has not ended the exchange: the answers still come.
        """
        await asyncio.shield(self._done)

    def _settle(self, error: SwapError | None) -> None:
        if self._done.done():
            return
        if error is None:
            self._done.set_result(None)
        else:
            self._done.set_exception(error)
            self._done.exception()  # nobody may be waiting any more
        if self._answers.is_done:
            self._on_done(self._answers.take_rest())


async def converse(upstream: Channel, request: bytes, answers: Answers) -> None:
    """Ask a new upstream, which has no client yet, and wait for all answers.

    Raises `SwapError` when it is lost, is silent, or answers what it must not.
    """
    upstream.write(request)
    while not answers.is_done:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                data = await upstream.read()
        except ConnectionError:
            data = b""
        except TimeoutError:
            raise SwapError("the new upstream does not answer") from None
        if not data:
            raise SwapError("the new upstream was lost")
        answers.receive(data)
    upstream.unread(answers.take_rest())


async def tell(upstream: Channel, replica: Replica, request: Request) -> None:
    """Tell a new upstream something, and let its replica know what it answered."""
    answers = Answers(request)
    await converse(upstream, request.data, answers)
    replica.take(answers)


async def settled(exchange: Exchange) -> bool:
    """Wait for the end of an exchange that nobody needs; say if it ended well."""
    with contextlib.suppress(TimeoutError, SwapError):
        async with asyncio.timeout(SETTLE_SECONDS):
            await exchange.wait()
    return exchange.is_answered
