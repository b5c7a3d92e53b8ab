import pytest
from hypothesis import given, strategies as st

from dsqlproxy.pgproto.framing import FrameReader
from dsqlproxy.probe import requests
from tests.kit import frames

ASCII = st.text(st.characters(min_codepoint=1, max_codepoint=127))


@given(sql=ASCII, name=ASCII, value=ASCII)
def test_requests_are_those_of_the_manual(sql: str, name: str, value: str) -> None:
    """The tests have their own way of building each, which real servers have read."""
    assert requests.query(sql) == frames.query(sql)
    assert requests.parse(sql, name=name) == frames.parse(sql, name=name)
    assert requests.bind(value, value, statement=name) == frames.bind(
        value, value, statement=name
    )
    assert requests.describe_statement(name) == frames.describe("S", name)


def test_portals_and_functions_are_those_of_the_manual() -> None:
    assert requests.describe_portal() == frames.describe("P")
    assert requests.execute() == frames.execute()
    assert requests.execute(rows=2) == frames.execute(rows=2)
    assert frames.FLUSH == requests.FLUSH
    assert requests.function_call(177, 2, 3) == frames.function_call(
        177, b"\0\0\0\2", b"\0\0\0\3"
    )


def test_an_extended_query_ends_with_its_sync() -> None:
    sent = FrameReader().feed(requests.extended("SELECT $1", "x"))
    assert "".join(chr(one.type) for one in sent) == "PBES"


def test_sql_is_ascii_whatever_the_encoding_of_the_session() -> None:
    with pytest.raises(UnicodeEncodeError):
        requests.query("SELECT 'ä'")
