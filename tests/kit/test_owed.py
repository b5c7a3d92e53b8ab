import pytest

from dsqlproxy.pgproto.framing import FrameReader
from tests.kit.frames import client, server, steps
from tests.kit.owed import Owed


def follow(script: str) -> Owed:
    owed = Owed()
    for sender, letters in steps(script):
        if sender == "client":
            owed.sent(FrameReader().feed(client(letters)))
        else:
            for frame in FrameReader().feed(server(letters)):
                owed.received(frame)
    return owed


@pytest.mark.parametrize(
    "script",
    [
        *("", "H", "P", "PBE", "Q <TDCZ", "PBES <12DCZ", "SSS <ZZZ", "PH <1"),
        *("PDH <1tT", "PDH <1tn", "PBEH <12Ds", "F <VZ", "Q <EZ", "PH <E"),
        "PBESQ <EZTCZ",
        "PBEH <1E >BE >H",  # skipped until Sync
        "PH <E >Q",
        *("P >Q <E", "PBE >Q <12CCZ"),
        *("Q <G", "Q <G >d", "Q <G >dc <CZ", "Q <G >df <EZ", "Qdc <GCZ", "Qdc <EZ"),
        *("PBES <12G", "PBES <12G >dcS <CZ", "PBEH <12G >dc", "PBEH <12G >dcS <EZ"),
        "PBESdcS <12GCZ",
        "Q <HddcCZ",
        "Q <NSZ",
    ],
)  # fmt: skip
def test_nothing_is_owed_that_will_not_come(script: str) -> None:
    assert not follow(script).is_something


@pytest.mark.parametrize(
    "script",
    [
        *("Q", "S", "PH", "PBES <12DC", "PBEH <12D", "SSS <ZZ", "PDH <1t", "F <V"),
        *("PBESQ <EZ", "PBES <E", "Q <E", "Q <G >c", "PBES <12G >cS <C", "PH >BH <1"),
        *("Qdc <G", "Q <N", "PBESS <12DCZ"),
    ],
)  # fmt: skip
def test_something_is_owed_that_will_come(script: str) -> None:
    assert follow(script).is_something


@pytest.mark.parametrize(
    ("script", "is_at_rest"),
    [
        ("", True),
        ("Q <TDCZ", True),
        ("PBES <12DCZ", True),
        ("PDH <1tT", False),
        ("PH <E", False),
        ("PH <E >S <Z", True),
        ("Q <CY", False),
        ("Q <EX", False),
        ("Q <G", False),
        ("P", False),
        ("P >Q <1CZ", True),
    ],
)
def test_a_session_at_rest_is_idle_with_nothing_open(
    script: str, is_at_rest: bool
) -> None:
    owed = follow(script)
    # The scripts write the status of a ReadyForQuery as a letter of their own.
    assert owed.is_nothing_open is is_at_rest
