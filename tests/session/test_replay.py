"""A replica, told by answers that a test makes up: what no PostgreSQL would say.

What one does say is in `test_replay_on_postgres.py` and its neighbours.
"""

import pytest

from dsqlproxy.pgproto.framing import frame
from dsqlproxy.pgproto.messages import ParameterStatus
from dsqlproxy.session.pins import NotCarriedOver, PinReason
from dsqlproxy.session.private import Answers, Item, Kind, Request
from dsqlproxy.session.replay import Replica
from dsqlproxy.session.state import SessionMemory
from dsqlproxy.session.statements import Budget
from tests.kit.frames import error, parse, server

GREETING = (
    ParameterStatus("DateStyle", "ISO, MDY"),
    ParameterStatus("server_version", "16.1"),
)
REFUSED = error("permission denied", sqlstate="42501")


def memory_of(*statements: str) -> SessionMemory:
    memory = SessionMemory((), GREETING, budget=Budget(), private_name="n")
    for one in statements:
        body = parse(f"select '{one}'", name=one)[5:]
        memory.frontend[ord("P")](body, 0, len(body))
        memory.note_effects(b"+z")
    return memory


def row(*values: bytes | None) -> bytes:
    body = len(values).to_bytes(2)
    for value in values:
        size = -1 if value is None else len(value)
        body += size.to_bytes(4, signed=True) + (value or b"")
    return frame(ord("D"), body)


class Server:
    """Says yes to everything, and to a question what it was told."""

    def __init__(self, **values: bytes | None) -> None:
        self.values = values
        self.who: tuple[bytes, ...] = (b"u", b"u", b"d")
        self.refuses: set[Kind | str | bytes] = set()
        self.asked: list[str] = []
        self.aside = b""
        self.shape = b"shape"

    def answer(self, request: Request) -> Answers:
        answers = Answers(request)
        for item in request.items:
            word = item.setting or item.key.decode()
            self.asked.append(f"{item.kind.name} {word}".strip())
            answers.receive(self.says(item) + self.aside + server("Z"))
            self.aside = b""
        return answers

    def says(self, item: Item) -> bytes:
        if not self.refuses.isdisjoint({item.kind, item.setting, item.key} - {"", b""}):
            return REFUSED
        if item.kind is Kind.CAPTURE:
            if item.is_generic:
                return REFUSED
            values = [self.values.get(name) for name in item.names]
            return server("312") + row(*values, *self.who) + server("C33")
        if item.kind is Kind.DESCRIBE:
            return server("t") + frame(ord("T"), self.shape + item.key)
        return server(item.kind.value[0])


def prepared(memory: SessionMemory, new: Server) -> Replica:
    replica = Replica(memory)
    replica.take(new.answer(replica.baseline(GREETING)))
    replica.take(new.answer(replica.early()))
    return replica


def complete(replica: Replica, old: Server, new: Server) -> bytes:
    answers = old.answer(replica.inspection(may_drop_stale=False))
    replica.take(new.answer(replica.completion(answers)))
    return replica.verified()


def reason_of(replica: Replica, old: Server, new: Server) -> PinReason | None:
    with pytest.raises(NotCarriedOver) as failure:
        complete(replica, old, new)
    return failure.value.reason


def test_equal_upstreams_need_nothing_but_questions() -> None:
    memory = memory_of("a", "b")
    old, new = Server(datestyle=b"ISO, MDY"), Server(datestyle=b"ISO, MDY")
    replica = prepared(memory, new)
    assert new.asked == [*["CAPTURE"] * 2, "CLOSE", "PARSE a", "PARSE b"]
    new.asked.clear()
    assert complete(replica, old, new) == b""
    assert old.asked == ["CAPTURE", "DESCRIBE a", "DESCRIBE b", "CLOSE"]
    assert new.asked == ["DESCRIBE a", "DESCRIBE b", "CAPTURE", "CLOSE"]
    replica.commit()
    assert [*memory.named] == [b"a", b"b"]


def test_a_difference_that_stays_is_a_mismatch() -> None:
    for values in ({"timezone": b"CET"}, {"timezone": None}):
        new = Server(timezone=b"UTC")
        assert reason_of(prepared(memory_of(), new), Server(**values), new) is (
            PinReason.MISMATCH
        )


def test_a_setting_that_was_refused_is_told_again() -> None:
    memory = memory_of()
    old, new = Server(timezone=b"CET"), Server(timezone=b"UTC")
    take_snapshot(memory, old)
    new.refuses = {"timezone"}
    replica = prepared(memory, new)
    new.refuses.clear()
    new.asked.clear()
    new.values["timezone"] = b"CET"
    complete(replica, old, new)
    assert new.asked == ["SET timezone", "SET_CONFIG timezone", "CAPTURE", "CLOSE"]


def take_snapshot(memory: SessionMemory, old: Server) -> None:
    replica = Replica(memory)
    replica.note_snapshot(old.answer(replica.snapshot()))


def test_a_statement_whose_environment_is_refused_is_not_parsed_in_another() -> None:
    memory = memory_of()
    memory.note_reported(ParameterStatus("DateStyle", "German, DMY"))
    body = parse("select '1.2.2020'::date", name="a")[5:]
    memory.frontend[ord("P")](body, 0, len(body))
    memory.note_effects(b"+z")
    new = Server(datestyle=b"ISO, MDY")
    replica = Replica(memory)
    replica.take(new.answer(replica.baseline(GREETING)))
    new.refuses = {"datestyle"}
    with pytest.raises(NotCarriedOver) as failure:
        replica.take(new.answer(replica.early()))
    assert failure.value.reason is PinReason.ENVIRONMENT


def test_a_statement_that_only_the_new_upstream_refuses_is_a_mismatch() -> None:
    new = Server()
    new.refuses = {b"a"}
    replica = prepared(memory_of("a", "b"), new)
    assert reason_of(replica, Server(), new) is PinReason.MISMATCH
    assert replica.dropped == (b"a",)


def test_a_statement_that_looks_different_is_a_mismatch() -> None:
    old, new = Server(), Server()
    old.shape = b"another"
    assert reason_of(prepared(memory_of("a"), new), old, new) is PinReason.MISMATCH


def test_another_user_is_a_role() -> None:
    for who in ((b"x", b"u", b"d"), (b"u", b"u", b"another database")):
        old, new = Server(), Server()
        old.who = who
        assert reason_of(prepared(memory_of(), new), old, new) is PinReason.ROLE


def test_a_server_that_answers_no_question_is_no_upstream() -> None:
    new = Server()
    new.refuses = {Kind.CAPTURE}
    with pytest.raises(NotCarriedOver, match="could not be made equal"):
        prepared(memory_of(), new)
    new.refuses.clear()
    replica = prepared(memory_of(), new)
    old = Server()
    old.refuses = {Kind.CAPTURE}
    assert reason_of(replica, old, new) is PinReason.MISMATCH
    new.refuses = {Kind.CAPTURE}
    assert reason_of(replica, Server(), new) is PinReason.MISMATCH


# A server in trouble says nothing about the statement: it is not stale.
@pytest.mark.parametrize("sqlstate", ["XX000", "53200"])
def test_trouble_of_the_old_server_drops_no_statement(sqlstate: str) -> None:
    memory = memory_of("a")
    new = Server()
    replica = prepared(memory, new)
    request = replica.inspection(may_drop_stale=True)
    answers = Answers(request)
    question, described, _ = request.items
    answers.receive(Server().says(question) + server("Z"))
    answers.receive(error("trouble", sqlstate=sqlstate) + server("Z3Z"))
    assert described.kind is Kind.DESCRIBE
    with pytest.raises(NotCarriedOver) as failure:
        replica.completion(answers)
    assert failure.value.reason is None
    assert [*memory.named] == [b"a"]


def test_a_pinned_session_is_not_begun() -> None:
    memory = memory_of()
    replica = prepared(memory, Server())
    memory.note_desynced()
    with pytest.raises(NotCarriedOver) as failure:
        replica.inspection(may_drop_stale=True)
    assert failure.value.reason is PinReason.DESYNCED
    with pytest.raises(NotCarriedOver) as failure:
        replica.restoration()
    assert failure.value.reason is PinReason.DESYNCED


def test_nothing_is_carried_over_that_was_not_verified() -> None:
    replica = Replica(memory_of())
    assert replica.dropped == ()
    with pytest.raises(NotCarriedOver):
        replica.verified()
    with pytest.raises(AssertionError, match="because"):
        replica.commit()
    with pytest.raises(AssertionError, match="because"):
        replica.completion(Answers(Request.of([])))


def test_names_that_the_new_upstream_refuses_are_not_asked_of_the_old() -> None:
    memory = memory_of()
    memory.mention(["my.own"])

    class Strict(Server):
        def says(self, item: Item) -> bytes:
            return REFUSED if "my.own" in item.names else super().says(item)

    old, new = Strict(), Strict()
    replica = prepared(memory, new)
    complete(replica, old, new)
    replica.commit()
    replica.note_snapshot(old.answer(replica.snapshot()))


def test_what_the_old_upstream_reports_meanwhile_is_known() -> None:
    memory = memory_of()
    old, new = Server(), Server()
    replica = prepared(memory, new)
    old.aside = ParameterStatus("DateStyle", "SQL, MDY").encode()
    told = complete(replica, old, new)
    assert memory.reported["DateStyle"] == "SQL, MDY"
    assert told == ParameterStatus("DateStyle", "ISO, MDY").encode()
    old.aside = ParameterStatus("server_version", "16.2").encode()
    replica = Replica(memory)
    replica.note_snapshot(old.answer(replica.snapshot()))
    assert memory.reported["server_version"] == "16.2"


def test_what_the_new_upstream_reports_meanwhile_is_told() -> None:
    memory = memory_of()
    new = Server()
    replica = prepared(memory, new)
    new.aside = ParameterStatus("server_version", "17.0").encode()
    told = complete(replica, Server(), new)
    assert told == ParameterStatus("server_version", "17.0").encode()
    assert memory.reported["server_version"] == "16.1"
    replica.commit()
    assert memory.reported["server_version"] == "17.0"


def test_a_snapshot_that_is_refused_is_an_error() -> None:
    memory = memory_of()
    old = Server()
    old.refuses = {Kind.CAPTURE}
    replica = Replica(memory)
    with pytest.raises(NotCarriedOver, match="refused"):
        replica.note_snapshot(old.answer(replica.snapshot()))
    assert memory.snapshot is None


# -- without the old upstream ----------------------------------------------------------


def test_a_session_is_restored_from_its_snapshot() -> None:
    memory = memory_of("a", "b")
    take_snapshot(memory, Server(timezone=b"CET"))
    new = Server(timezone=b"UTC")
    new.refuses = {b"b"}
    replica = prepared(memory, new)
    replica.take(new.answer(replica.restoration()))
    with pytest.raises(NotCarriedOver):
        replica.verified()
    with pytest.raises(AssertionError, match="because"):
        replica.commit()
    new.values["timezone"] = b"CET"
    new.asked.clear()
    replica.take(new.answer(replica.restoration()))
    assert replica.verified() == b""
    assert replica.dropped == (b"b",)
    assert new.asked == ["PARSE b", "CAPTURE", "CLOSE"]
    replica.commit()
    assert [*memory.named] == [b"a"]


def test_without_a_snapshot_the_reported_environment_counts() -> None:
    memory = memory_of("a")
    new = Server(datestyle=b"ISO, MDY")
    replica = prepared(memory, new)
    replica.take(new.answer(replica.restoration()))
    assert replica.verified() == b""
    new = Server(datestyle=b"SQL, MDY")
    replica = prepared(memory, new)
    replica.take(new.answer(replica.restoration()))
    with pytest.raises(NotCarriedOver) as failure:
        replica.verified()
    assert failure.value.reason is PinReason.MISMATCH
