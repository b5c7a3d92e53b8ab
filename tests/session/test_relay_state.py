"""The states of a relay, and what moves between them are legal."""

import itertools

import pytest

from dsqlproxy.session.reasons import CloseReason
from dsqlproxy.session.relay_state import HOLDING, LIVING, MOVES, RelayState, move
from tests.kit.frames import client
from tests.kit.relayed import Relayed, relayed


@pytest.mark.parametrize(
    ("state", "to"),
    [
        pair
        for pair in itertools.product(RelayState, RelayState)
        if pair[1] not in MOVES[pair[0]]
    ],
)
def test_an_illegal_move_raises(state: RelayState, to: RelayState) -> None:
    with pytest.raises(AssertionError, match="because that is not a move"):
        move(state, to)


def test_every_legal_move_gives_the_new_state() -> None:
    for state, targets in MOVES.items():
        for to in targets:
            assert move(state, to) is to


def test_every_state_can_be_left_for_closed() -> None:
    assert set(MOVES) == set(RelayState)
    open_states = set(RelayState) - {RelayState.CLOSED}
    assert all(RelayState.CLOSED in MOVES[state] for state in open_states)


async def test_an_illegal_move_changes_nothing() -> None:
    async with relayed() as between:
        await between.ask(client("Q"))
        between.relay.finish(CloseReason.CLIENT_TERMINATED)
        before = _all_of(between)
        with pytest.raises(AssertionError, match="because that is not a move"):
            between.relay.finish(CloseReason.CLIENT_CLOSED)
        assert _all_of(between) == before
        between.relay.stop()
        before = _all_of(between)
        with pytest.raises(AssertionError, match="because that is not a move"):
            between.relay.finish(CloseReason.CLIENT_CLOSED)
        assert _all_of(between) == before


def _all_of(between: Relayed) -> tuple[object, ...]:
    relay = between.relay
    ending = relay.ended.result() if relay.ended.done() else None
    return (relay.state, relay._reason, relay.closed.is_set(), ending, relay.is_watched)


def test_a_client_that_has_said_its_last_does_not_come_back() -> None:
    for state in set(RelayState) - LIVING:
        assert not MOVES[state] & LIVING


def test_a_held_client_lives() -> None:
    assert HOLDING < LIVING
    assert all(RelayState.RUNNING in MOVES[state] for state in HOLDING)
