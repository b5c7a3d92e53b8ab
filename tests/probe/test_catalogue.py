from pathlib import Path

from dsqlproxy.probe import catalogue
from dsqlproxy.probe.pace import Pace

ALL = (*catalogue.QUESTIONS, *catalogue.LONG)


def test_keys_are_names_and_each_is_there_once() -> None:
    keys = [one.key for one in ALL]
    assert len(set(keys)) == len(keys)
    assert all(key.isidentifier() and key == key.lower() for key in keys)


def test_the_documentation_names_every_question() -> None:
    page = Path(__file__).parents[2] / "docs" / "probe.md"
    text = page.read_text(encoding="utf-8")
    assert not [one.key for one in ALL if f"`{one.key}`" not in text]


def test_every_question_is_in_words_and_says_why_it_is_asked() -> None:
    assert not [one.key for one in ALL if "?" not in one.words]
    assert not [one.key for one in ALL if not one.matters.endswith(".")]


def test_a_short_probe_takes_minutes_at_most_even_where_nothing_answers() -> None:
    pace = Pace()
    seconds = [
        pace.question_seconds + one.extra_seconds(pace) for one in catalogue.QUESTIONS
    ]
    assert max(seconds) < 60


def test_a_long_probe_outlives_the_documented_limit() -> None:
    pace = Pace()
    assert pace.transaction_after_seconds < 3600 < pace.watch_seconds
    for one in catalogue.LONG:
        assert 300 < one.extra_seconds(pace) <= pace.watch_seconds
