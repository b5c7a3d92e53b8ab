"""Who watches an attempt is told of each phase, with what is known by then."""

from dataclasses import dataclass, field

import pytest

from dsqlproxy.errors import UpstreamUnavailable
from dsqlproxy.situations.network import Phase
from dsqlproxy.upstream.encryption import Way
from dsqlproxy.upstream.securing import Attempt
from tests.kit.scripted import Conversation, scripted_server
from tests.upstream.stage import STARTUP, TOKEN, Make, cluster
from tests.upstream.wire import Authority


@dataclass
class Watcher:
    """Remembers the phases, and what was known when each began."""

    phases: list[Phase] = field(default_factory=list)
    known: dict[Phase, tuple[int, bool, bool]] = field(default_factory=dict)
    last: Attempt | None = None

    def __call__(self, attempt: Attempt) -> None:
        self.phases.append(attempt.phase)
        self.known[attempt.phase] = (
            len(attempt.addresses),
            attempt.channel is not None,
            attempt.token is not None,
        )
        self.last = attempt


async def test_each_phase_is_told_as_it_begins(
    make: Make, authority: Authority
) -> None:
    watcher = Watcher()
    async with scripted_server(cluster(authority.server_context())) as server:
        upstream = await make(server).open(STARTUP, on_phase=watcher)
        await upstream.channel.close_within(5)
    assert watcher.phases == [
        *(Phase.RESOLVE, Phase.CONNECT, Phase.SECURE, Phase.SIGN, Phase.LOG_IN)
    ]
    assert watcher.known == {
        Phase.RESOLVE: (0, False, False),
        Phase.CONNECT: (1, False, False),
        Phase.SECURE: (1, False, False),
        Phase.SIGN: (1, True, False),
        Phase.LOG_IN: (1, True, True),
    }
    assert watcher.last
    assert watcher.last.way is Way.DIRECT
    assert watcher.last.token
    assert watcher.last.token.reveal() == TOKEN


async def refuses(peer: Conversation) -> None:
    await peer.receive(1)


async def test_a_second_way_is_told_as_a_second_connection(
    make: Make, authority: Authority
) -> None:
    watcher = Watcher()
    second = cluster(authority.server_context(), by_request=True)
    async with scripted_server(refuses, second) as server:
        upstream = await make(server).open(STARTUP, on_phase=watcher)
        await upstream.channel.close_within(5)
    assert watcher.phases == [
        *(Phase.RESOLVE, Phase.CONNECT, Phase.SECURE),
        *(Phase.CONNECT, Phase.SECURE, Phase.SIGN, Phase.LOG_IN),
    ]
    assert watcher.last
    assert watcher.last.way is Way.REQUEST


async def test_nothing_is_told_of_what_was_not_reached(make: Make) -> None:
    watcher = Watcher()
    async with scripted_server(refuses) as server:
        with pytest.raises(UpstreamUnavailable):
            await make(server).open(STARTUP, on_phase=watcher)
    assert watcher.phases[-1] is Phase.SECURE
