import re
import time

import pytest
from hypothesis import given, strategies as st

from dsqlproxy.probe.masking import CLUSTER, ROLE, Masking
from dsqlproxy.probe.report import Answer
from tests.probe.kit import TOKEN
from tests.upstream import wire

ACCOUNT = "111122223333"
SIGNATURE = "5e" * 32
SESSION_TOKEN = f"IQoJ+{'k3' * 200}="


def masking() -> Masking:
    made = Masking()
    made.add(wire.CLUSTER, CLUSTER)
    made.add(wire.CLUSTER.partition(".")[0], CLUSTER)
    made.add_token(TOKEN)
    return made


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (f"User: arn:aws:iam::{ACCOUNT}:role/x is not", "User: <arn> is not"),
        ('"arn:aws-us-gov:sts::1:assumed-role/a/b@c.d".', '"<arn>".'),
        ("key AKIAIOSFODNN7EXAMPLX.", "key <key id>."),
        ("id AROA0123456789ABCDEF:me", "id <key id>:me"),
        (f"account {ACCOUNT}, 1111-2222-3333", "account <account>, <account>"),
        ("at other.dsql.us-east-1.on.aws:5432", "at <host>:5432"),
        ("at vpce-1.us-east-1.vpce.amazonaws.com", "at <host>"),
        (f"for {wire.CLUSTER}.", "for <cluster>."),
        (f"for {wire.CLUSTER.upper()}", "for <cluster>"),
        ("cluster abcdefghijklmnopqrstuvwxy2", "cluster <id>"),
        ("from 10.1.2.3.", "from <address>."),
        ("from 10.1.2.3:55", "from <address>:55"),
        ("from [2600:1f18::7]:5432", "from <address>:5432"),
        ("from fd00::1, 2600:1:2:3:4:5:6:7", "from <address>, <address>"),
        ("bad X-Amz-Credential=me%2Fyou", "bad <token>"),
        ("bad h/?a=b&X-Amz-Security-Token=abc&c=d it was", "bad <token> it was"),
        (f"computed {'ab' * 32}", "computed <hash>"),
    ],
)
def test_what_tells_who_it_is_goes(text: str, masked: str) -> None:
    assert masking().of_text(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        'setting configuration parameter "statement_timeout" not supported',
        "X-Amz-Expires must be less than 604800 seconds",
        "Signature expired: 20261122T220642Z is now earlier than 20261122T220643Z",
        "SELECT pg_catalog.count(*)::pg_catalog.text at 12:34:56.789",
        "PostgreSQL 16.15, 160015, OC001, 1 2 D*2 C Z, 0.004",
        "-c default_transaction_read_only=off",
    ],
)
def test_what_a_cluster_says_otherwise_stays(text: str) -> None:
    assert masking().of_text(text) == text


@given(before=st.text(), after=st.text())
def test_no_part_of_a_token_is_told_wherever_it_stands(before: str, after: str) -> None:
    for secret in (TOKEN, SIGNATURE, SESSION_TOKEN, "IQoJ%2B" + "k3" * 200 + "%3D"):
        masked = masking().of_text(f"{before}{secret}{after}")
        assert SIGNATURE not in masked
        assert "k3" * 20 not in masked
        assert "AKIAIOSFODNN7EXAMPLE" not in masked


@given(st.text(st.characters()))
def test_any_text_becomes_one_printable_line(text: str) -> None:
    masked = masking().of_text(text)
    assert masked.isprintable()
    masked.encode()


def test_a_role_is_masked_as_a_word_only() -> None:
    made = Masking()
    made.add("app", ROLE)
    assert made.of_text('role "app" of application_name') == (
        'role "<role>" of application_name'
    )


def test_nothing_is_no_secret() -> None:
    assert Masking().of_text("a fine day") == "a fine day"
    made = Masking()
    made.add("", CLUSTER)
    made.add(None, CLUSTER)
    made.add_token("x?X-Amz-Signature=&X-Amz-Credential=a/b")
    assert made.of_text("a fine day") == "a fine day"


def test_every_part_of_an_answer_is_masked() -> None:
    answer = masking().of_answer(
        Answer(
            f"at {wire.CLUSTER}",
            {
                wire.CLUSTER: wire.CLUSTER,
                "list": [wire.CLUSTER],
                "map": {wire.CLUSTER: wire.CLUSTER},
                "number": 7,
                "none": None,
            },
        )
    )
    assert answer == Answer(
        "at <cluster>",
        {
            "<cluster>": "<cluster>",
            "list": ["<cluster>"],
            "map": {"<cluster>": "<cluster>"},
            "number": 7,
            "none": None,
        },
    )


def test_a_flood_of_words_is_cut() -> None:
    assert len(masking().of_text("word " * 1_000_000)) == 1_001
    assert masking().of_text("x" * 1_000_000) == ""
    many = {str(number): "x" for number in range(10_000)}
    evidence = masking().of_answer(Answer("", {"map": many, "list": [*many]})).evidence
    assert [len(value) for value in evidence.values() if value] == [600, 600]  # type: ignore[arg-type]


def test_a_secret_that_is_cut_is_not_half_told() -> None:
    text = "a " * 3_990 + TOKEN
    assert re.search("k3k3|5e5e|AKIA", masking().of_text(text)) is None


@pytest.mark.parametrize(
    "unit", ["a", "a.", "arn:a:", "X-Amz-", "a:", "[a", "1.", "-", "0123456789ab"]
)
def test_no_text_makes_a_search_last(unit: str) -> None:
    """Whoever answers in a cluster's place chooses the text."""
    began = time.process_time()
    masking().of_text(unit * (8_000 // len(unit)))
    assert time.process_time() - began < 0.5
