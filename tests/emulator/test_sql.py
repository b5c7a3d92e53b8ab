import pytest
from hypothesis import given, strategies as st

from dsqlproxy.emulator.sql import Statement, Token, TokenKind, split, tokenize

# Texts made of what matters to a lexer, so that noise finds the interesting places.
_PIECES = st.sampled_from(
    [
        *("'", '"', "E'", "U&'", 'U&"', "$$", "$a$", "$1", "\\", "--", "/*", "*/"),
        *("\n", " ", ";", "(", ")", "::", "->>", "1.5e", "begin", "end", "create"),
        *("function", "atomic", "case", "truncate", "é", "\udcff", "''", '""', "x"),
    ]
)
_TEXTS = st.lists(_PIECES, max_size=30).map("".join) | st.text(max_size=40)


def _words(text: str) -> list[str]:
    return [t.text for t in tokenize(text) if t.kind is TokenKind.WORD]


def _texts(sql: str) -> list[str]:
    return [sql[part.start : part.end] for part in split(sql)]


def _only(sql: str) -> Statement:
    (statement,) = split(sql)
    return statement


@given(_TEXTS)
def test_joining_the_tokens_gives_the_text_back(text: str) -> None:
    tokens = list(tokenize(text))
    assert "".join(token.text for token in tokens) == text
    assert [token.start for token in tokens] == [
        sum(len(before.text) for before in tokens[:index])
        for index in range(len(tokens))
    ]


@given(_TEXTS)
def test_noise_splits_into_parts_of_itself(text: str) -> None:
    end = 0
    for statement in split(text):
        assert end <= statement.start < statement.end <= len(text)
        end = statement.end


@pytest.mark.parametrize(
    "hidden",
    [
        "'truncate'",
        "'it''s; truncate'",
        r"E'\'; truncate'",
        r"e'a\\' ",
        "'a'\n  '; truncate'",
        "E'a' -- x\n '\\'; truncate'",
        "U&'truncate'",
        "B'truncate'",
        "N'truncate'",
        '"truncate"',
        '"a""; truncate"',
        'U&"truncate"',
        "$$; truncate$$",
        "$a$ $$; truncate $b$ $a$",
        "-- ; truncate\n",
        "/* ; truncate */",
        "/* /* */ ; truncate */",
        "1",
        "$1",
    ],
)
def test_nothing_in_a_literal_a_quoted_name_or_a_comment_is_a_word(hidden: str) -> None:
    assert _words(f"select {hidden} , x") == ["select", "x"]
    assert len(split(f"select {hidden} ; select 2")) == 2


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        (r"'a\' x", ["x"]),
        ("'a' '; x'", []),
        ("a$b$c x $b$", ["a$b$c", "x"]),
        ("a--b\nc", ["a", "c"]),
        ("a-/*b*/-c", ["a", "c"]),
        ("a@-b", ["a", "b"]),
        ("data->'a'->>b", ["data", "b"]),
        ("tablee'x'", ["tablee"]),
        ("1e5 2.5e+3 x", ["x"]),
        ("a\xa0b", ["a\xa0b"]),
    ],
)
def test_words_end_where_postgresql_ends_them(sql: str, words: list[str]) -> None:
    assert _words(sql) == words


@pytest.mark.parametrize(
    ("sql", "statements"),
    [
        ("", []),
        (" ; ;-- only\n;", []),
        ("select 1", ["select 1"]),
        ("select 1; select 2;", ["select 1", "select 2"]),
        ("create rule r as on insert to t do (a; b); c", None),
        (
            "create function f() returns int begin atomic select 1; "
            "select case when true then 2 end; end; select 2",
            None,
        ),
        ("create or replace procedure p() begin atomic x; end; select 2", None),
        ("begin; case; end", ["begin", "case", "end"]),
        ("create table t (a int); select 2", None),
        ("select ); select 2", None),
    ],
)
def test_semicolons_end_statements_outside_parentheses_and_bodies(
    sql: str, statements: list[str] | None
) -> None:
    found = _texts(sql)
    if statements is None:
        first, _, last = sql.rpartition("; ")
        statements = [first, last]
    assert found == statements


@pytest.mark.parametrize(
    "sql",
    ["select 'a", "select E'a\\'", 'select "a""', "select $$a", "select /* /* */"],
)
def test_what_does_not_end_swallows_the_rest_and_says_so(sql: str) -> None:
    assert not _only(sql + " ; x").is_terminated
    assert _only("select 'a'").is_terminated


def test_a_statement_lies_between_its_first_and_its_last_token() -> None:
    sql = "/* hint */ select 1 -- one\n ; x"
    assert _texts(sql) == ["select 1", "x"]


def test_words_are_folded_as_postgresql_folds_them() -> None:
    assert _only("TRUNCATE \"TRUNCATE\" É 'X'").shape == (
        "truncate",
        '"TRUNCATE"',
        "É",
        "'",
    )
    assert _only("Create Table x").starts_with("create table")


@pytest.mark.parametrize(
    ("sql", "name", "value"),
    [
        ("Role", "role", ""),
        ('"Ro""le"', 'Ro"le', ""),
        ("'it''s'", "", "it's"),
        ("$a$x'y$a$", "", "x'y"),
        ("E'x'", "", "x"),
        ("1", "", ""),
    ],
)
def test_names_and_values_are_read_from_their_quotes(
    sql: str, name: str, value: str
) -> None:
    token: Token = _only(sql).tokens[0]
    assert (token.name, token.value) == (name, value)


# It took seconds, and twice as long for each space more.
@pytest.mark.parametrize("filling", [" " * 200, "\n" * 200, "--\n" * 99])
def test_a_string_at_the_end_of_a_line_is_read_at_once(filling: str) -> None:
    assert _texts(f"select 'a'\n{filling}from x") == [f"select 'a'\n{filling}from x"]
    assert len(_texts(f"select 'a'{filling}\n 'b'")) == 1
