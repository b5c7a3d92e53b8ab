"""What the tracker makes of the unusual (errors, losses, noise), and what it tells."""

import pytest
from hypothesis import given, strategies as st

from dsqlproxy.errors import Peer
from dsqlproxy.session.requests import MAX_OUTSTANDING
from dsqlproxy.session.tracker import Tracker
from tests.kit.conversations import Told, follow, tell
from tests.kit.frames import steps


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
    pytest.param("O <1", id="ParseComplete for a Close"),
    pytest.param("U <3", id="CloseComplete for a Parse"),
    pytest.param("P <a", id="a tag for a Parse"),
    pytest.param("Q <R", id="a message of the login"),
    pytest.param("PBE <12G >dS", id="a Sync within COPY after data (SWAP 5.B.17)"),
    pytest.param("PBEdSc <12G", id="... pipelined"),
    pytest.param("Q <G >cdS <CG", id="... in the second COPY of a Query"),
]


@pytest.mark.parametrize("script", DESYNCED)
def test_what_is_not_understood_costs_the_right_to_be_quiet(script: str) -> None:
    tracker = follow(script)
    assert tracker.desynced
    assert not follow(f"{script} >S <ZZZ").is_quiet
    assert not follow(f"{script} >Q <CZ").is_quiet


def test_copy_in_both_directions_is_a_reason_of_its_own() -> None:
    assert "COPY in both directions" in follow("Q <W").desynced


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
    pytest.param("UBES", True, id="Execute of the unnamed statement, and Sync"),
    pytest.param("UBES <12C", True, id="... executed"),
    pytest.param("UBES <1E", False, id="... failed"),
    pytest.param("CBES <32a", True, id="a tag of its own, its commit not confirmed"),
    pytest.param("Q <e", True, id="a setting changed, its commit not confirmed"),
    pytest.param("Q <eM", False, id="SET; COMMIT"),
    pytest.param("F", True, id="a function call"),
    pytest.param("W", True, id="an INSERT that commits by itself"),
    pytest.param("Q <CY >W", False, id="an INSERT in a transaction block"),
    pytest.param("W <E", False, id="an INSERT that failed"),
    pytest.param("Q <G >d", False, id="COPY IN"),
    pytest.param("W <G >d", False, id="COPY IN, not all of it"),
    pytest.param("W <G >dc", True, id="COPY IN, all of it"),
    pytest.param("", False, id="nothing"),
    pytest.param("Q <CY", False, id="in a transaction, nothing outstanding"),
]


@pytest.mark.parametrize(("script", "expected"), MAY_HAVE_COMMITTED)
def test_may_have_committed(script: str, *, expected: bool) -> None:
    assert follow(script).may_have_committed is expected


# -- what becomes of statements --------------------------------------------------------

EFFECTS = [
    # a request about a statement succeeds
    ("P <1", "+"),
    ("U <1", "+"),
    ("C <3", "+"),
    ("O <3", ""),
    ("PBDES <12TDCZ", "+z"),
    ("UBDES <12TDCZ", "+z"),
    ("POUCS <1313Z", "+++z"),
    ("PDH <1tT >BES <2CZ", "+z"),
    ("Pdc <1", "+"),
    ("UBES <12G >dcS <CZ", "+z"),
    ("BDES <2TDCZ", ""),
    ("OS <3Z", ""),
    ("Q <TDNACZ", ""),
    # ... is refused, or discarded behind an error
    ("PS <EZ", "-"),
    ("PSPS <1ZEZ", "+z-"),  # a name taken (SWAP 5.B.28)
    ("BPUCS <E", "---"),
    ("BPH <E >S", "-"),
    ("PBPES <12E", "+-"),
    ("PBPES <12EZ", "+-z"),
    ("PUCSPS <E", "---"),
    ("PUCSPS <EZ1Z", "---+z"),
    ("PCQUCS <1E", "+---"),  # the Query is discarded too
    ("PSUS <1CE", "+"),  # not understood: nothing is told any more
    ("QPS <EZ1Z", "+z"),  # a Query's error discards nothing
    ("SPS <EZ1Z", "+z"),
    ("Q <G >df <E >UC <Z13", "++"),
    ("UBEPS <12G >f <E", "+-"),
    # the unnamed statement is gone (SWAP 5.B.28)
    ("US <1Z >Q <CZ", "+zu"),
    ("US <1Z >Q <EZ", "+zu"),
    ("US <1Z >K <MZ", "+zu"),
    ("US <1Z >W <CZ", "+zu"),
    ("UQ <1CZ", "+uz"),
    ("US <1Z >QQ <CZCZ", "+zu"),
    ("US <1Z >US <EZ", "+z-u"),
    ("US <1Z >UPS <EZ", "+z--u"),
    ("US <1Y >US <EX", "+z-u"),
    ("US <EZ", "-"),  # there was none
    # ... and is not
    ("US <1Z >S <Z", "+z"),
    ("US <1Z >F <VZ", "+z"),
    ("US <1Z >PS <EZ", "+z-"),
    ("US <1Z >BUS <EZ", "+z-"),
    ("US <1Z >PQS <EZ", "+z-"),
    ("US <1Z >UBES <12aZ", "+z+az"),  # by an Execute
    ("US <1Z >BES <2xZ", "+zx"),
    # tags: their place is that of their answer
    ("Q <axelproZ", "axelpro"),
    ("BES <2eZ", "e"),
    ("PSQ <1ZaZ", "+za"),
    ("QPS <aZ1Z", "a+z"),  # SWAP 5.B.27
    ("US <1Z >QUS <aZ1Z", "+zau+z"),
    ("K <MZ", ""),
    # parameters
    ("<S", "S"),
    ("Q <eSZ", "eSz"),
    ("Q <eSSZ", "eSSz"),
    ("Q <SCY >Q <CZ", "Sz"),
    ("<S >BES <2CZ", "Sz"),
    ("PBES <12eSZ", "+eSz"),
    # where nothing can be told
    ("P <F", ""),
    ("P <T", ""),
    ("P <2", ""),
    ("P <2 >P <1SaZ", ""),
]


@pytest.mark.parametrize(("script", "effects"), EFFECTS)
def test_effects_of_answers(script: str, effects: str) -> None:
    assert tell(script).effects == effects


DROPPED = [
    ("PUC", ""),
    ("PBDESQUBES", ""),
    ("P <E >PUC", "---"),
    ("P <E >POBDEHQF", "-"),
    ("P <E >BDEHQFO", ""),
    ("P <E >PSUC", "-++"),
    ("P <E >PUSCSC", "--++"),
    ("P <E >S >PUC", ""),
    ("P <E >S <Z >P", ""),
    ("Q <E >P", ""),
    ("Q <G >dc >P", ""),
    ("PX", ""),
    ("PXUC", "+--"),
    ("X >PUC", "---"),
    ("<Z >P", ""),
]


@pytest.mark.parametrize(("script", "dropped"), DROPPED)
def test_requests_that_the_server_discards_are_told(script: str, dropped: str) -> None:
    assert tell(script).dropped == dropped


def test_what_is_told_is_told_again_for_the_same_script() -> None:
    for _ in range(3):
        assert tell("P <E >PSUC").dropped == "-++"
        assert tell("US <1Z >US <EZ").effects == "+z-u"


# -- properties ------------------------------------------------------------------------

both = st.lists(
    st.one_of(
        st.text("PUBDECOSQKFHdcfX", min_size=1, max_size=4).map(lambda run: f">{run}"),
        st.text("123TntDCMIsVEFZYXGHWdcNSARaxelpro", min_size=1, max_size=4).map(
            lambda run: f"<{run}"
        ),
    ),
    max_size=30,
).map(" ".join)


def likely_answers(queue: str) -> str:
    """Give answers that may come for the oldest request."""
    runs = {"Q": "CZYXEaGxS", "K": "MZE", "F": "VZE", "S": "ZYXES"}
    parts = {"P": "1E", "U": "1E", "B": "2E", "D": "tTnE", "E": "DCIseE", "C": "3E"}
    return {**runs, **parts, "O": "3E"}.get(queue[:1], "NS")


def converse(data: st.DataObject, length: int = 25) -> str:
    """Make a conversation in which nearly every answer is one that may come."""
    script = ""
    for _ in range(length):
        left = queue(follow(script))
        answers = likely_answers(left.lstrip("dcf"))
        sends = data.draw(st.booleans())
        letter = data.draw(st.sampled_from("PPUUBDECOSSQKFHdcf" if sends else answers))
        script += f" {'>' if sends else '<'}{letter}"
    return script


@given(both)
def test_no_conversation_can_break_it(script: str) -> None:
    tracker = follow(script)
    if tracker.is_quiet:
        assert tracker.outstanding == 0
        assert not tracker.awaits_ready
        assert not tracker.may_have_committed
        assert not tracker.in_transaction
    assert queue(tracker)[:1] not in {"d", "c", "f"}


def one_by_one(script: str) -> str:
    return " ".join(
        f"{'>' if sender is Peer.CLIENT else '<'}{letter}"
        for sender, run in steps(script)
        for letter in run
    )


@given(both)
def test_portions_change_nothing(script: str) -> None:
    at_once, apart = tell(script), tell(one_by_one(script))
    assert at_once.tracker.state == apart.tracker.state
    assert at_once.effects == apart.effects


@given(st.data())
def test_every_request_about_a_statement_is_told_of_once(data: st.DataObject) -> None:
    told = Told()
    pending: list[str] = []
    script = converse(data)
    for sender, run in steps(script):
        before = len(told.dropped), len(told.effects)
        told.hear(f"{'>' if sender is Peer.CLIENT else '<'}{run}")
        dropped, effects = told.dropped[before[0] :], told.effects[before[1] :]
        if sender is Peer.CLIENT and run in "PUC" and not dropped:
            pending.append(run)
        for effect in effects:
            if effect in "+-":
                pending.pop(0)
        if told.tracker.desynced:
            return
        left = [one for one in queue(told.tracker) if one in "PUC"]
        assert pending == left, script
        if told.tracker.is_quiet:
            assert not pending


# SWAP 5.B.29.
@given(st.data())
def test_asides_change_nothing_but_what_they_tell(data: st.DataObject) -> None:
    script = converse(data)
    noisy = script.replace(" ", " <NSA ")
    plain, told = tell(script), tell(noisy)
    assert told.tracker.state._replace(has_news=False) == (
        plain.tracker.state._replace(has_news=False)
    )
    aside = str.maketrans("", "", "Sz")
    assert told.effects.translate(aside) == plain.effects.translate(aside)


@given(
    st.lists(
        st.sampled_from(["Q <TDCZ", "PBDES <12TDCZ", "S <Z", "PBS <EZ", "UBES <12CZ"])
    )
)
def test_finished_requests_leave_no_trace(requests: list[str]) -> None:
    state = follow(" >".join(requests)).state
    assert state._replace(has_unnamed=False) == Tracker().state


# A pipeline too long for the memory of what scripts do is followed all the same.
def test_a_long_pipeline_is_followed_to_its_end() -> None:
    tracker = follow("PBDES" * 500)
    assert tracker.outstanding == 2_500
    assert tracker.note_received(b"12TCZ" * 499) == b"+z" * 499
    assert queue(tracker) == "PBDES"
    assert tracker.note_received(b"12TCZ") == b"+z"
    assert tracker.is_quiet
