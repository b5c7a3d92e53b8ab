import copy
import json
import logging
import pickle
from collections.abc import Callable
from dataclasses import asdict, dataclass

import pytest
from hypothesis import given, strategies as st

from dsqlproxy.aws.secret import Secret

TEXT = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"  # AWS documentation's example
SECRET = Secret(TEXT)


@dataclass(frozen=True)
class Holder:
    secret: Secret


SHOWS: dict[str, Callable[[Secret], str]] = {
    "repr": repr,
    "str": str,
    "ascii": ascii,
    "format": "{}".format,
    "conversion": "{!r:>50}".format,
    "precision": "{:.3}".format,
    "width": "{:>60}".format,
    "percent": lambda secret: "%s %r" % (secret, secret),  # noqa: UP031
    "containers": lambda secret: str([secret, {"key": secret}]),
    "dataclass": lambda secret: repr(Holder(secret)),
    "exception": lambda secret: str(ValueError(secret)),
}


@pytest.mark.parametrize("show", SHOWS.values(), ids=SHOWS)
def test_showing_gives_a_placeholder(show: Callable[[Secret], str]) -> None:
    shown = show(SECRET)
    assert not any(part in shown for part in (TEXT, TEXT[:4], TEXT[-4:]))


LEAKS: dict[str, Callable[[Secret], object]] = {
    "pickle": pickle.dumps,
    "copy": copy.copy,
    "deep copy": copy.deepcopy,
    "json": json.dumps,
    "asdict": lambda secret: asdict(Holder(secret)),
    "join": "".join,  # type: ignore[dict-item]
    "bytes": bytes,  # type: ignore[dict-item]
    "list": list,  # type: ignore[dict-item]
    "vars": vars,
}


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS)
def test_what_would_carry_the_text_away_fails(leak: Callable[[Secret], object]) -> None:
    with pytest.raises(TypeError) as caught:
        leak(SECRET)
    assert TEXT not in str(caught.value)


def test_a_log_at_any_level_shows_a_placeholder(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("test").debug("%s %.5s", SECRET, SECRET, extra={"s": SECRET})
    assert TEXT[:5] not in caplog.text
    assert "<secret>" in caplog.text


@given(st.text())
def test_only_reveal_gives_the_text(text: str) -> None:
    assert Secret(text).reveal() == text


@given(st.text(), st.text())
def test_two_are_equal_as_their_texts_are(one: str, other: str) -> None:
    assert (Secret(one) == Secret(other)) == (one == other)
    assert Secret(one) == Secret(one)
    assert hash(Secret(one)) == hash(Secret(one))


def test_a_secret_is_no_text() -> None:
    assert SECRET != TEXT
    assert TEXT != SECRET
