import pytest

from dsqlproxy.situations.checkup import (
    clock_is_off,
    clock_is_unknown,
    no_answer,
    offset_text,
)


@pytest.mark.parametrize(
    ("ahead", "expected"),
    [
        (0.0, "within 1 s of AWS"),
        (-0.9, "within 1 s of AWS"),
        (7.4, "7 s ahead of AWS"),
        (-90, "90 s behind AWS"),
        (1200, "20 min ahead of AWS"),
        (-7260, "121 min behind AWS"),
    ],
)
def test_an_offset_is_told_as_people_say_it(ahead: float, expected: str) -> None:
    assert offset_text(ahead) == expected


def test_a_clock_that_is_off_comes_with_its_cure() -> None:
    trouble = clock_is_off(-1200)
    assert "20 min behind AWS" in trouble.message
    assert "NTP" in trouble.hint
    assert trouble.remedy
    assert "timedatectl" in trouble.remedy.text


def test_a_clock_that_cannot_be_compared_says_why() -> None:
    assert clock_is_unknown("it hung").endswith("STS was asked, but it hung")


def test_a_statement_without_an_answer_says_what_the_cluster_did() -> None:
    error = no_answer("was silent for 2 s")
    assert error.detail == "It was SELECT 1, and the cluster was silent for 2 s."
    assert error.hint
