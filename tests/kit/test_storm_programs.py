from collections import Counter

import pytest

from dsqlproxy.emulator.sql import split
from dsqlproxy.emulator.statements import judge
from dsqlproxy.pgproto.codes import FrontendType
from dsqlproxy.pgproto.framing import FrameReader
from tests.kit.storm_programs import TABLES, Program, random_program

SEEDS = range(200)


def statements(program: Program) -> list[str]:
    """Give the texts that a program has a server parse."""
    found = []
    for step in program:
        for kind, body in FrameReader().feed(step.data):
            if kind == FrontendType.PARSE:
                body = body.partition(b"\0")[2]  # noqa: PLW2901 - the name is left out
            if kind in {FrontendType.PARSE, FrontendType.QUERY}:
                found.append(body.partition(b"\0")[0].decode("latin-1"))
    return found


def test_a_seed_gives_the_same_program_again() -> None:
    assert random_program(7) == random_program(7)
    assert random_program(7) != random_program(8)


def test_steps_are_whole_frames_or_a_statement_of_another_session() -> None:
    for seed in SEEDS:
        for step in random_program(seed):
            reader = FrameReader()
            reader.feed(step.data)
            assert not reader.take_rest()
            assert bool(step.data) or bool(step.elsewhere) or "nothing" in step.text
            assert repr(step) == step.text


def test_every_request_of_the_protocol_occurs() -> None:
    kinds: Counter[int] = Counter()
    for seed in SEEDS:
        for step in random_program(seed):
            kinds.update(kind for kind, _ in FrameReader().feed(step.data))
    left_out = set(FrontendType) - set(kinds)
    assert left_out == {FrontendType.PASSWORD, FrontendType.TERMINATE}


def test_what_a_session_may_have_of_its_own_occurs() -> None:
    texts = " ".join(
        " ; ".join(statements(random_program(seed))).lower() for seed in SEEDS
    )
    for word in (
        *("set local datestyle", "reset search_path", "reset all", "deallocate all"),
        *("discard all", "savepoint", "select set_config('timezone'", "né"),
        *("copy sink from stdin", "to stdout", "begin", "rollback", "commit"),
        *("set client_encoding", "extra_float_digits", "1/0", "from shape"),
    ):
        assert word in texts, word


def test_tables_change_elsewhere_unless_they_are_not_to() -> None:
    assert any(step.elsewhere for seed in SEEDS for step in random_program(seed))
    for seed in SEEDS:
        program = random_program(seed, changes_tables=False)
        assert not any(step.elsewhere for step in program)


@pytest.mark.parametrize("seed", range(50))
def test_no_rule_of_a_cluster_refuses_what_is_written_for_it(seed: int) -> None:
    for text in statements(random_program(seed, dialect="dsql")):
        for statement in split(text):
            assert judge(statement).refusal is None, text


def test_the_tables_are_made_anew() -> None:
    assert TABLES[0].startswith("drop schema if exists")
