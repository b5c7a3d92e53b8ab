"""Pins: each reason has a sentence that a client can read."""

import pytest

from dsqlproxy.errors import SwapError
from dsqlproxy.session.pins import NotCarriedOver, PinReason, pinned


@pytest.mark.parametrize("reason", PinReason)
def test_each_reason_has_a_sentence_of_its_own(reason: PinReason) -> None:
    assert len(reason.sentence.split()) > 3
    assert reason.sentence not in {one.sentence for one in PinReason if one != reason}
    assert reason == reason.name.lower() or reason is PinReason.STALE


def test_the_error_of_a_reason_speaks_its_words() -> None:
    error = pinned(PinReason.LISTEN, detail="channel news")
    assert isinstance(error, SwapError)
    assert str(error) == "the session listens to notifications. channel news"
    assert (error.reason, error.may_retry) == (PinReason.LISTEN, False)
    assert NotCarriedOver("interrupted", may_retry=True).may_retry
