"""Units of a client's frames: what may be sent on its own."""

import pytest
from hypothesis import given, strategies as st

from dsqlproxy.pgproto.script import FRONTEND_SYMBOLS
from dsqlproxy.session.hold import HOLD_BYTES, Hold
from tests.kit.frames import client, copy_data, query


def units(data: bytes) -> list[bytes]:
    hold = Hold()
    hold.add(data)
    taken = []
    while unit := hold.take_unit():
        taken.append(unit)
    assert hold.take_all() == data[sum(map(len, taken)) :]
    return taken


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        pytest.param("Q", ["Q"], id="a query is a unit"),
        pytest.param("QQ", ["Q", "Q"], id="each query is one"),
        pytest.param("PBDES", ["PBDES"], id="a pipeline goes with its sync"),
        pytest.param("PBESBES", ["PBES", "BES"], id="each sync ends one"),
        pytest.param("PDHBES", ["PDH", "BES"], id="a flush ends one"),
        pytest.param("PBE", [], id="half a pipeline waits"),
        pytest.param("QPB", ["Q"], id="and only that half"),
        pytest.param("dddc", ["dddc"], id="a copy goes with its end"),
        pytest.param("ddf", ["ddf"], id="or its failure"),
        pytest.param("F", ["F"], id="a function call is a unit"),
        pytest.param("X", ["X"], id="and so is the end"),
    ],
)
def test_a_unit_ends_where_the_server_answers(frames: str, expected: list[str]) -> None:
    assert units(client(frames)) == [client(each) for each in expected]


@given(st.integers(min_value=0))
def test_cutting_the_bytes_anywhere_changes_no_unit_property(size: int) -> None:
    data = client("PBES") + query("select 1") + client("PDHX")
    whole, cut = units(data), units(data[: size % (len(data) + 1)])
    assert cut == whole[: len(cut)]


def test_what_is_too_long_to_wait_for_goes_as_it_is() -> None:
    hold = Hold()
    hold.add(copy_data(bytes(HOLD_BYTES)))
    assert hold.is_full
    assert len(hold.take_unit()) > HOLD_BYTES
    assert not hold


def test_what_cannot_be_followed_goes_as_it_is() -> None:
    nonsense = b"Q\0\0\0\1rest"
    assert units(nonsense) == [nonsense]


def test_what_is_put_back_comes_first_again() -> None:
    hold = Hold()
    hold.add(client("S"))
    hold.put_back(client("E"))
    assert hold.take_unit() == client("ES")


# Such a frame could neither be waited for nor be passed.
def test_a_hold_takes_more_than_the_longest_frame_that_passes_only_whole() -> None:
    assert max(FRONTEND_SYMBOLS.whole.values()) + 1 < HOLD_BYTES
