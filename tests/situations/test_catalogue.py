"""The catalogue as a whole; that each row is true, the tests of docs/errors.md say."""

import re

import pytest

from dsqlproxy.errors import TokenError, UpstreamRejected
from dsqlproxy.situations.catalogue import CATALOGUE, SECTIONS
from dsqlproxy.situations.cluster import Cause, cause_of
from dsqlproxy.situations.situation import LogEvent, Moment, Situation, Waits

by_key = pytest.mark.parametrize("row", CATALOGUE, ids=lambda row: row.key)


def test_keys_and_titles_are_unique() -> None:
    for words in ([row.key for row in CATALOGUE], [row.title for row in CATALOGUE]):
        assert len(set(words)) == len(words)
    assert len({section.title for section in SECTIONS}) == len(SECTIONS)


@by_key
def test_a_row_is_complete(row: Situation) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", row.key)
    assert row.mends.endswith((".", ")"))
    assert (row.example is None) == (row.moment in {Moment.SILENCE, Moment.WARNING})
    if row.moment is Moment.SILENCE:
        assert row.log_event is LogEvent.LEFT


@by_key
def test_an_error_says_what_to_do(row: Situation) -> None:
    if row.moment in {Moment.LOGIN, Moment.SESSION, Moment.STATEMENT}:
        assert row.example is not None
        has_hint = isinstance(row.example, UpstreamRejected) and "H" in dict(
            row.example.fields
        )
        is_explained = row.example.hint or row.example.detail or has_hint
        assert is_explained or row.key == "parameter-refused"


@by_key
def test_who_is_held_is_held_for_what_may_pass(row: Situation) -> None:
    match row.example:
        case TokenError(may_pass=may_pass):
            assert may_pass == (row.waits is Waits.HELD)
        case UpstreamRejected() as error:
            cause = cause_of(error)
            holds = cause.is_passing or cause is Cause.CREDENTIALS_REFUSED
            assert holds == (row.waits is Waits.HELD)
            is_late = cause is Cause.SIGNATURE_EXPIRED
            assert is_late == (row.waits is Waits.SIGNED_ANEW)
        case _:
            pass


def test_every_cause_of_a_refusal_has_a_row() -> None:
    refusals = [
        row.example for row in CATALOGUE if isinstance(row.example, UpstreamRejected)
    ]
    assert {cause_of(error) for error in refusals} == set(Cause)
