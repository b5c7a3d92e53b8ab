"""docs/errors.md is up to date, and each of its rows is produced by a test."""

from collections import Counter
from pathlib import Path

from dsqlproxy.session.errors_page import page
from tests.end_to_end import (
    test_error_page_cluster,
    test_error_page_credentials,
    test_error_page_network,
    test_error_page_sessions,
    test_error_page_startup,
)
from tests.end_to_end.error_rows import ROWS, rows_of

THEMES = (
    test_error_page_cluster,
    test_error_page_credentials,
    test_error_page_network,
    test_error_page_sessions,
    test_error_page_startup,
)
PAGE = Path(__file__).parents[2] / "docs" / "errors.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "make docs writes it anew"


def test_each_row_is_produced_by_one_test() -> None:
    produced = Counter(key for theme in THEMES for key in rows_of(theme))
    assert produced.keys() == ROWS.keys()
    assert {key: times for key, times in produced.items() if times > 1} == {}
