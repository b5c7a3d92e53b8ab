"""The tracker as transcripts: see `tests.kit.conversations` for the letters."""

import pytest

from dsqlproxy.session.tracker import Tracker
from tests.kit.conversations import follow


def queue(tracker: Tracker) -> str:
    return tracker.state.queue.decode()


# The numbers are those of the catalogue of tests in the specification (SWAP 5.B); that
# every row of its table of transitions occurs here is 5.B.11.


# -- what is outstanding ---------------------------------------------------------------

OUTSTANDING = [
    # client frames, and what waits for an answer after each
    ("", ""),
    ("Q", "Q"),
    ("K", "K"),
    ("F", "F"),
    ("S", "S"),
    ("H", ""),
    ("PBDESH", "PBDES"),
    ("UBDES", "UBDES"),
    ("C", "C"),
    ("O", "O"),
    ("SSS", "SSS"),
    ("d", ""),  # stray CopyData and ends of a COPY that is not: ignored
    ("cf", ""),
    ("X", ""),
    ("Qdddc", "Qdc"),  # a COPY pipelined ahead of its CopyInResponse
    # answers
    ("Q <TDDC", "Q"),
    ("Q <TDDCZ", ""),
    ("Q <IZ", ""),  # an empty Query: SWAP 5.B.30
    ("Q <CTDCTDCZ", ""),  # several statements in one Query
    ("Q <EZ", ""),
    ("Q <HdddcCZ", ""),  # COPY OUT
    ("QQ <HdcCZ", "Q"),  # ... and a Query behind: SWAP 5.B.22
    ("QQ <CZ", "Q"),
    ("Q <aZ", ""),  # tags of their own end a statement too
    ("Q <xelproMZ", ""),
    ("BES <2e", "S"),
    ("F <VZ", ""),  # SWAP 5.B.24
    ("F <EZ", ""),
    ("P <1", ""),
    ("U <1", ""),
    ("PBDES <12", "DES"),
    ("PBDES <12T", "ES"),
    ("PBDES <12nC", "S"),
    ("PBDES <12nCZ", ""),
    ("PDS <1t", "DS"),  # ParameterDescription, then T or n
    ("PDS <1tT", "S"),
    ("PDS <1tn", "S"),
    ("BES <2Ds", "S"),  # PortalSuspended: SWAP 5.B.23
    ("BES <2DsZ >ES <DCZ", ""),
    ("BEES <2DsDs", "S"),
    ("BES <2I", "S"),  # an empty prepared statement: SWAP 5.B.30
    ("CS <3Z", ""),
    ("OS <3Z", ""),
    ("S <Z", ""),
    ("SSS <Z", "SS"),
    ("SSS <ZZZ", ""),
    # asides between any two frames: SWAP 5.B.29
    ("PBDES <NSA1N2ASTNDSDACNZN", ""),
    # errors
    ("PS <E", "S"),
    ("PS <EZ", ""),
    ("PBDES <E", "S"),
    ("PBDES <12E", "S"),
    ("PBDESPBDES <12EZ", "PBDES"),
    ("PQS <E", "S"),  # the Query is discarded too
    ("PQFS <EZ", ""),  # SWAP 5.B.13
    ("UDOCS <E", "S"),
    ("PBE <E", ""),
    ("ES <CE", "S"),  # an error at Sync, such as a conflict at commit
    ("ES <CEZ", ""),  # ... skips nothing: SWAP 5.B.25
    ("PBEQ <12C", "Q"),  # a Query ends the pipeline like a Sync: SWAP 5.B.26
    ("PBEQ <12CCZ", ""),
    ("PBEQ <12CCY", ""),
]


@pytest.mark.parametrize(("script", "left"), OUTSTANDING)
def test_what_is_outstanding(script: str, left: str) -> None:
    tracker = follow(script)
    assert queue(tracker) == left
    assert tracker.outstanding == len(left.replace("d", "").replace("c", ""))
    assert not tracker.desynced


# -- quiet -----------------------------------------------------------------------------

QUIET = [
    "",
    "H",
    "S <Z",
    "Q <CZ",
    "Q <IZ",
    "PBES <12CZ",
    "P <1",  # asyncpg's prepare: no Sync
    "U <1 >OCH <33",
    "PD <1tT",
    "PD <1tn >CH <3",
    "PBS <12Z",  # its portal died with the Sync
    "P <E >S <Z",
    "PBE <12C >Q <CZ",  # PostgreSQL 16: SWAP 5.B.26
    "Q <CY >Q <CZ",
    "Q <EX >K <CZ",
    "Q <GNCZ",
    "Q <G >dc <CZ",
    "Q <G >df <EZ",
    "Q <NCSZ",
]
NOT_QUIET = [
    pytest.param("Q", id="outstanding: Query"),
    pytest.param("P", id="outstanding: Parse"),
    pytest.param("S", id="outstanding: Sync"),
    pytest.param("F", id="outstanding: FunctionCall"),
    pytest.param("Q <TDDC", id="no ReadyForQuery yet"),
    pytest.param("Q <CY", id="in a transaction"),
    pytest.param("PBEQ <12CCY", id="SWAP 5.B.26: PostgreSQL 18"),
    pytest.param("Q <EX", id="in a failed transaction"),
    pytest.param("P <E", id="skipping"),
    pytest.param("PB <E >Q", id="skipping, with a discarded Query"),
    pytest.param("Q <G", id="COPY IN"),
    pytest.param("Q <G >d", id="COPY IN, after data"),
    pytest.param("Q <Hd", id="COPY OUT"),
    pytest.param("PBH <12", id="a portal is left"),
    pytest.param("PBDEH <12TDC", id="executed, and no Sync"),
    pytest.param("PBEH <12Ds", id="a suspended portal"),
    pytest.param("X", id="the client left"),
    pytest.param("<F", id="FATAL"),
    pytest.param("Q <F", id="FATAL in a Query"),
    pytest.param("<Z", id="not understood"),
]


@pytest.mark.parametrize("script", QUIET)
def test_quiet(script: str) -> None:
    tracker = follow(script)
    assert tracker.is_quiet
    assert tracker.outstanding == 0
    assert not tracker.awaits_ready


@pytest.mark.parametrize("script", NOT_QUIET)
def test_not_quiet(script: str) -> None:
    assert not follow(script).is_quiet


# -- skipping --------------------------------------------------------------------------


def test_while_the_server_skips_nothing_is_answered() -> None:
    tracker = follow("P <E >PBDECQKFH")
    assert queue(tracker) == ""
    assert not tracker.awaits_ready
    assert follow("P <E >QS <Z").is_quiet


def test_a_sync_ends_the_skipping_before_it_is_answered() -> None:
    assert queue(follow("P <E >SPS")) == "SPS"
    assert follow("P <E >SPS <Z1Z").is_quiet


# SWAP 5.B.14.
def test_a_sync_sent_before_the_error_came_ends_the_skipping_too() -> None:
    tracker = follow("PBS >PS <E")
    assert queue(tracker) == "SPS"
    assert follow("PBS >PS <EZ1Z").is_quiet


def test_frames_sent_before_the_error_came_are_discarded_with_it() -> None:
    tracker = follow("P >BDE <E")
    assert queue(tracker) == ""
    assert queue(follow("P >BDE <E >S")) == "S"


@pytest.mark.parametrize("request_", "QF")
def test_an_error_in_a_query_or_function_call_skips_nothing(request_: str) -> None:
    assert queue(follow(f"{request_}Q <E")) == f"{request_}Q"
    assert follow(f"{request_}Q <EZCZ").is_quiet


# -- COPY ------------------------------------------------------------------------------

COPY_QUIET = [
    pytest.param("Q <G >ddd >c <CZ", id="simple"),
    pytest.param("Q <G >c <CZ", id="no rows"),
    pytest.param("Q >ddc <GCZ", id="pipelined ahead of the response"),
    pytest.param("Q >d <G >dc <CZ", id="begun ahead of the response"),
    pytest.param("Q <G >f <EZ", id="CopyFail (SWAP 5.B.19)"),
    pytest.param("Q <G >d <EZ >dddc", id="a refused row, the rest comes late"),
    pytest.param("Q <G >d <E >dddc <Z", id="... between error and ready"),
    pytest.param("Q <G >dc <EZ", id="a refused row, known after the end"),
    pytest.param("Q <G >d <EZ >ddc >Q <CZ", id="... and a Query after it"),
    pytest.param("Q <G >d <E >ddcQ <ZCZ", id="... before the ready"),
    pytest.param(
        f"Q <G >d <EZ >{'d' * 1_000}cQ <CZ", id="... 1,000 late ones (SWAP 5.B.20)"
    ),
    pytest.param("Q <G >dc >Q <CZCZ", id="with a Query behind"),
    pytest.param("Q <G >dcQ <EZCZ", id="failed, with a Query behind (SWAP 5.B.18)"),
    pytest.param(
        "Q <G >dc <CTDCZ", id="another statement in the same Query (SWAP 5.B.21)"
    ),
    pytest.param("Q <G >dc <CG >dc <CZ", id="two in one Query"),
    pytest.param("Q >dcdc <GCGCZ", id="two in one Query, pipelined"),
    pytest.param("Q >d <G >cdc <CGCZ", id="two in one Query, the second ahead"),
    pytest.param("PBE <12G >dcS <CZ", id="extended"),
    pytest.param("PBEdcS <12GCZ", id="extended, all pipelined (SWAP 5.B.15)"),
    pytest.param("PBES <12G >dcS <CZ", id="extended, its Sync swallowed (libpq)"),
    pytest.param(
        "PBE <12G >SHSdcS <CZ", id="Syncs before the data are swallowed (SWAP 5.B.16)"
    ),
    pytest.param("PBESdcS <12GCZ", id="... swallowed in a pipeline"),
    pytest.param("PBEScS <12GCZ", id="... with no data"),
    pytest.param("PBEcQ <12GCTDCZ", id="extended, a Query ends it"),
    pytest.param("PBEcPF <12GC1VZ", id="extended, a FunctionCall ends it"),
    pytest.param("PBE <12G >d <E >dc >S <Z", id="extended, a refused row"),
    pytest.param("PBE <12G >dcS <EZ", id="extended, refused at the end"),
    pytest.param("PBE <12G >dcSPBES <EZ12CZ", id="... with a pipeline behind"),
    pytest.param("UBE <12G >dcSQ <EZCZ", id="... with a Query behind (SWAP 5.B.18)"),
    pytest.param("PBES <12G >f <E >S <Z", id="extended, CopyFail (SWAP 5.B.19)"),
    pytest.param("PBES >dc <12EZ", id="extended, refused before the response"),
    pytest.param("Qdc <EZ", id="refused before the response"),
    pytest.param("Q <HdddcCZ >Q <CZ", id="COPY OUT, then a Query"),
    pytest.param("QQ <HdcCZCZ", id="COPY OUT with a Query pipelined"),
    pytest.param("P <1 >dc >S <Z", id="stray data in a pipeline"),
    pytest.param("Pdc <1", id="stray data behind a Parse"),
]


@pytest.mark.parametrize("script", COPY_QUIET)
def test_a_copy_ends_quiet(script: str) -> None:
    tracker = follow(script)
    assert not tracker.desynced
    assert tracker.is_quiet


COPY_NOT_QUIET = [
    ("Q >ddc <G", "Qdc"),
    ("Q <G >dc", "Qc"),
    ("Q <G >dc <C", "Q"),
    ("PBE <12G >dc", "Ec"),
    ("PBES <12G >dc", "Ec"),
    # A swallowed Sync ended nothing: the COPY is done and not committed. libpq sends
    # the Sync that ends it right behind CopyDone, but it may come in another chunk.
    ("PBES <12G >dc <C", ""),
    ("PBE <12G >Sdc <C", ""),
    ("PBESdc <12GC", ""),
    ("PBESdc <12G", "Edc"),
]


@pytest.mark.parametrize(("script", "left"), COPY_NOT_QUIET)
def test_a_copy_is_under_way(script: str, left: str) -> None:
    tracker = follow(script)
    assert not tracker.desynced
    assert queue(tracker) == left
    assert not tracker.is_quiet


def test_within_copy_in_no_ready_for_query_is_to_come() -> None:
    assert follow("Q").awaits_ready
    assert not follow("Q <G >d").awaits_ready
    assert follow("Q <G >d <E").awaits_ready
    assert not follow("PBE").awaits_ready
    assert follow("PBES").awaits_ready


# A ReadyForQuery ends the Query of a failed COPY, and its late CopyData is ignored by
# the server: the session is at rest then, not only after its next request.
def test_late_copy_data_does_not_hide_that_a_session_is_quiet() -> None:
    tracker = follow("Q <G >d <E >dddc")
    assert queue(tracker) == "Qdc"
    tracker.note_received(b"Z")
    assert queue(tracker) == ""
    assert tracker.is_quiet
