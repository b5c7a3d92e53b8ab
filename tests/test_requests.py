"""What the tracker makes of the unusual: errors of peers, losses, noise."""

import pytest
from hypothesis import given, strategies as st

from dsqlproxy.errors import Peer
from dsqlproxy.session.requests import MAX_OUTSTANDING
from dsqlproxy.session.tracker import Tracker
from tests.kit.frames import follow, steps


def queue(tracker: Tracker) -> str:
    return tracker.state.queue.decode()


# -- what it does not understand -------------------------------------------------------

DESYNCED = [
    pytest.param("<Z", id="ReadyForQuery for nothing"),
    pytest.param("P <Z", id="ReadyForQuery for a Parse"),
    pytest.param("<1", id="ParseComplete for nothing"),
    pytest.param("B <1", id="ParseComplete for a Bind"),
    pytest.param("Q <2", id="BindComplete for a Query"),
    pytest.param("Q <3", id="CloseComplete for a Query"),
    pytest.param("Q <n", id="NoData for a Query"),
    pytest.param("<C", id="CommandComplete for nothing"),
    pytest.param("S <C", id="CommandComplete for a Sync"),
    pytest.param("P <s", id="PortalSuspended for a Parse"),
    pytest.param("<E", id="an error for nothing"),
    pytest.param("<G", id="CopyInResponse for nothing"),
    pytest.param("S <G", id="CopyInResponse for a Sync"),
    pytest.param("Q <W", id="CopyBoth"),
    pytest.param("Q <R", id="a message of the login"),
    pytest.param("PBE <12G >dS", id="a Sync within COPY after data"),
    pytest.param("PBEdSc <12G", id="... pipelined"),
    pytest.param("Q <G >cdS <CG", id="... in the second COPY of a Query"),
]


@pytest.mark.parametrize("script", DESYNCED)
def test_what_is_not_understood_costs_the_right_to_be_quiet(script: str) -> None:
    tracker = follow(script)
    assert tracker.desynced
    assert not follow(f"{script} >S <ZZZ").is_quiet
    assert not follow(f"{script} >Q <CZ").is_quiet


def test_the_first_reason_stays() -> None:
    tracker = follow("<Z")
    reason = tracker.desynced
    tracker.note_received(b"1")
    assert tracker.desynced == reason


# What is left in the queue of a stream that is not understood would be waited for: a
# client that closes its side would keep its session for an hour.
def test_a_desynced_session_waits_for_nothing_after_a_ready_for_query() -> None:
    tracker = follow("PQ <Z >Q <CZ")
    assert tracker.desynced
    assert tracker.outstanding == 0
    assert not tracker.awaits_ready
    assert follow("PQ <Z >Q").awaits_ready


def test_a_desynced_session_still_tells_its_status() -> None:
    assert follow("<1 >Q <CY").in_transaction
    assert not follow("<1 >Q <CYCZ").in_transaction


def test_a_pipeline_without_end_is_not_followed_for_ever() -> None:
    tracker = Tracker()
    for _ in range(MAX_OUTSTANDING // 512):
        tracker.note_sent(b"BE" * 256)
    assert not tracker.desynced
    tracker.note_sent(b"B")
    assert "too many" in tracker.desynced
    assert tracker.outstanding < MAX_OUTSTANDING


# -- the ends --------------------------------------------------------------------------


def test_the_client_terminated() -> None:
    assert not follow("Q").client_terminated
    assert follow("QX").client_terminated


@pytest.mark.parametrize("script", ["QXQS", "QX >QS", "QX >PBES"])
def test_what_follows_terminate_is_not_waited_for(script: str) -> None:
    assert queue(follow(script)) == "Q"
    assert not follow(f"{script} <CZ").awaits_ready


def test_the_upstream_failed() -> None:
    assert not follow("Q <E").upstream_failed
    assert follow("Q <F").upstream_failed
    assert follow("<F").upstream_failed
    assert not follow("<F").desynced


def test_a_notice_that_speaks_of_fatal_is_no_failure() -> None:
    assert not follow("Q <NCZ").upstream_failed


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("", False),
        ("Q <CY", True),
        ("Q <EX", True),
        ("Q <CY >Q", True),
        ("Q <CY >K <MZ", False),
    ],
)
def test_in_transaction(script: str, *, expected: bool) -> None:
    assert follow(script).in_transaction is expected


# -- what a loss means (SQLSTATE 08006 or 08007) ---------------------------------------

MAY_HAVE_COMMITTED = [
    pytest.param("K", True, id="COMMIT sent"),
    pytest.param("Q <CY >K", True, id="COMMIT of a transaction sent"),
    pytest.param("K <M", False, id="COMMIT done"),
    pytest.param("K <MZ", False, id="COMMIT confirmed"),
    pytest.param("K <E", False, id="COMMIT failed"),
    pytest.param("QK", True, id="COMMIT pipelined"),
    pytest.param("QK <CY", True, id="COMMIT pipelined, the first answered"),
    pytest.param("KK <MZ", True, id="a second COMMIT"),
    pytest.param("KK <M", True, id="a second COMMIT, the first done"),
    pytest.param("Q", False, id="a Query sent, no answer"),
    pytest.param("Q <TD", False, id="a Query with some rows"),
    pytest.param("Q <TDC", True, id="a statement done, its commit not confirmed"),
    pytest.param("Q <TDCZ", False, id="all confirmed"),
    pytest.param("Q <CE", False, id="a later statement of the Query failed"),
    pytest.param("Q <CM", False, id="SELECT; COMMIT"),
    pytest.param("Q <MC", True, id="COMMIT; INSERT"),
    pytest.param("K <MC", True, id="COMMIT; INSERT in one that begins with COMMIT"),
    pytest.param("PBE", False, id="Execute without Sync"),
    pytest.param("PBES", True, id="Execute and Sync"),
    pytest.param("PBS", False, id="Sync without Execute"),
    pytest.param("PBES <12C", True, id="executed, Sync not answered"),
    pytest.param("PBEH <12C", False, id="executed, no Sync sent"),
    pytest.param("PBES <12M", False, id="executed COMMIT"),
    pytest.param("PBEBES <12M", True, id="... and another Execute behind"),
    pytest.param("PBES <12E", False, id="failed"),
    pytest.param("PBES <12CE", False, id="failed at Sync"),
    pytest.param("PBESPBES <EZ", True, id="failed, and another pipeline behind"),
    pytest.param("PBES <12CZ", False, id="confirmed"),
    pytest.param("F", True, id="a function call"),
    pytest.param("W", True, id="an INSERT that commits by itself"),
    pytest.param("Q <CY >W", False, id="an INSERT in a transaction block"),
    pytest.param("W <E", False, id="an INSERT that failed"),
    pytest.param("Q <G >d", False, id="COPY IN"),
    pytest.param("", False, id="nothing"),
    pytest.param("Q <CY", False, id="in a transaction, nothing outstanding"),
]


@pytest.mark.parametrize(("script", "expected"), MAY_HAVE_COMMITTED)
def test_may_have_committed(script: str, *, expected: bool) -> None:
    assert follow(script).may_have_committed is expected


# -- properties ------------------------------------------------------------------------

both = st.lists(
    st.one_of(
        st.text("PBDECSQKFHdcfX", min_size=1, max_size=4).map(lambda run: f">{run}"),
        st.text("123TntDCMIsVEFZYXGHWdcNSAR", min_size=1, max_size=4).map(
            lambda run: f"<{run}"
        ),
    ),
    max_size=30,
).map(" ".join)


@given(both)
def test_no_conversation_can_break_it(script: str) -> None:
    tracker = follow(script)
    if tracker.is_quiet:
        assert tracker.outstanding == 0
        assert not tracker.awaits_ready
        assert not tracker.may_have_committed
        assert not tracker.in_transaction
    assert queue(tracker)[:1] not in {"d", "c", "f"}


@given(both)
def test_portions_change_nothing(script: str) -> None:
    one_by_one = " ".join(
        f"{'>' if sender is Peer.CLIENT else '<'}{letter}"
        for sender, run in steps(script)
        for letter in run
    )
    assert follow(one_by_one).state == follow(script).state


@given(st.lists(st.sampled_from(["Q <TDCZ", "PBDES <12TDCZ", "S <Z", "PBS <EZ"])))
def test_finished_requests_leave_no_trace(requests: list[str]) -> None:
    assert follow(" >".join(requests)).state == Tracker().state


# A pipeline too long for the memory of what scripts do is followed all the same.
def test_a_long_pipeline_is_followed_to_its_end() -> None:
    tracker = follow("PBDES" * 500)
    assert tracker.outstanding == 2_500
    tracker.note_received(b"12TCZ" * 499)
    assert queue(tracker) == "PBDES"
    tracker.note_received(b"12TCZ")
    assert tracker.is_quiet
