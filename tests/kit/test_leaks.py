import json
from urllib.parse import quote

import pytest
from hypothesis import given, strategies as st

from tests.kit.leaks import PIECE, Forbidden

KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SESSION = "IQoJb3JpZ2luX2VjEJr/+aDSESSIONdeadbeefTOKEN+" * 5
SIGNATURE = "0123456789abcdef" * 4
TOKEN = (
    "host.example/?Action=DbConnect&X-Amz-Credential=AKIAEXAMPLE%2F20261122"
    f"&X-Amz-Security-Token={quote(SESSION, safe='')}&X-Amz-Signature={SIGNATURE}"
)


@pytest.fixture(scope="module")
def forbidden() -> Forbidden:
    forbidden = Forbidden()
    forbidden.add("key", KEY)
    forbidden.add_token("a token", TOKEN)
    return forbidden


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (KEY, {"key"}),
        (quote(KEY, safe=""), {"key"}),
        (json.dumps({"key": KEY}), {"key"}),
        (f"{TOKEN!r}", {"signature of a token", "session token of a token"}),
        (SESSION, {"session token of a token"}),
        (SIGNATURE[17:60], {"signature of a token"}),
        (TOKEN.partition("&X-Amz-Security")[0], set()),
        ("", set()),
        ("AKIAEXAMPLE", set()),
    ],
)
def test_a_secret_is_found_in_each_form(
    forbidden: Forbidden, text: str, names: set[str]
) -> None:
    for said in (text, f"before {text} after", text.encode()):
        assert forbidden.found_in(said) == names


@given(
    start=st.integers(0, len(SESSION)),
    around=st.text(st.characters(categories=["Ll"]), max_size=9),
)
def test_a_part_that_is_long_enough_is_found_wherever_it_begins(
    forbidden: Forbidden, start: int, around: str
) -> None:
    part = SESSION[start : start + PIECE + PIECE // 2]
    found = forbidden.found_in(around + part + around)
    assert len(part) < PIECE + PIECE // 2 or found == {"session token of a token"}


def test_what_could_be_seen_by_chance_is_no_secret() -> None:
    with pytest.raises(AssertionError, match="too short"):
        Forbidden().add("a word", "secret")
