from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from dsqlproxy.config.file import read_file
from dsqlproxy.config.values import DecimalInt
from dsqlproxy.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "proxy.yaml"


def read(file: Path, text: str) -> tuple[dict[object, object], list[str]]:
    file.write_text(text, encoding="utf-8")
    return read_file(file)


def problem(file: Path, text: str) -> str:
    """Give the one problem of a file that cannot be read."""
    with pytest.raises(ConfigError) as refusal:
        read(file, text)
    assert refusal.value.source == str(file)
    (only,) = refusal.value.problems
    return only


def test_a_file_becomes_a_tree(file: Path) -> None:
    assert read(file, "a: [1, x]\nb: {c: off}\n") == (
        {"a": [1, "x"], "b": {"c": False}},
        [],
    )


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1:30", "1:30"),
        ("1:30.5", "1:30.5"),
        ("2026-01-02", "2026-01-02"),
        ("2026-99-99", "2026-99-99"),
        ("0600", 0o600),
        ("1.5", 1.5),
        ("0o600", "0o600"),
        ("${HOME}", "${HOME}"),
    ],
)
def test_yaml_does_not_turn_text_into_something_clever(
    file: Path, written: str, value: object
) -> None:
    assert read(file, f"a: {written}") == ({"a": value}, [])


def test_a_decimal_number_remembers_that_it_is_one(file: Path) -> None:
    tree, _ = read(file, "a: 400\nb: 0620\n")
    assert isinstance(tree["a"], DecimalInt)
    assert tree["a"] == tree["b"] == 400
    assert not isinstance(tree["b"], DecimalInt)


def test_a_key_given_twice_is_a_problem_with_both_lines(file: Path) -> None:
    _, problems = read(file, "log:\n  level: info\n  format: text\n  level: debug\n")
    assert problems == [
        'line 4, column 3: the key "level" is given twice, first in line 2; '
        "accepted: one of the two"
    ]


def test_every_duplicate_key_is_found(file: Path) -> None:
    text = "a: 1\nb: [{c: 1,\n c: 2}]\n\na: 2\na: 3\n? [x]\n: 1\n"
    with pytest.raises(ConfigError, match="unhashable"):
        read(file, text)
    _, problems = read(file, text.partition("?")[0])
    assert len(problems) == 3


def test_a_merge_may_be_overridden(file: Path) -> None:
    tree, problems = read(file, "a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\n")
    assert tree["b"] == {"x": 3, "y": 2}
    assert not problems


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "null"], ids=repr)
def test_an_empty_file_is_said_to_be_empty(file: Path, text: str) -> None:
    assert problem(file, text).startswith("the file is empty; accepted: ")


@pytest.mark.parametrize(
    ("text", "shown"), [("- a", "a list"), ("x", '"x"'), ("5", "5"), ("[]", "[]")]
)
def test_a_file_that_is_no_mapping_is_refused(
    file: Path, text: str, shown: str
) -> None:
    assert problem(file, text).startswith(f"the file holds {shown}; accepted: ")


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("a: 1\nb: [", "line 2, column 5: "),
        ("a:\n\tb: 1", "line 2, column 1: "),
        ("a: 'x", "line 1, column 6: "),
        ("a: *nobody", "line 1, column 4: "),
        ("a: !!python/none x", "line 1, column 4: "),
        ("a: !!bool maybe", "line 1, column 4: "),
        ("a: !!int x", "line 1, column 4: "),
        ("a: !!int {}", "line 1, column 4: "),
        ("a: !!timestamp x", "line 1, column 4: "),
        ("a: 1\n---\nb: 2", "line 2, column 1: "),
    ],
    ids=repr,
)
def test_bad_syntax_is_reported_with_line_and_column(
    file: Path, text: str, start: str
) -> None:
    assert problem(file, text).startswith(f"{start}not valid YAML: ")


def test_an_ipv6_address_without_quotes_gets_a_hint(file: Path) -> None:
    assert "needs quotes" in problem(file, "listeners:\n  - listen: [::1]:5432\n")


def test_control_characters_are_refused(file: Path) -> None:
    found = problem(file, "a: \x01")
    assert found.startswith("not valid YAML: ")
    assert "not allowed" in found


def test_nesting_without_end_is_refused(file: Path) -> None:
    assert problem(file, "[" * 5000) == "the file is nested too deeply"


def test_a_byte_order_mark_is_no_character(file: Path) -> None:
    assert read(file, "\ufeffa: 1\n") == ({"a": 1}, [])


def test_a_file_that_is_not_utf_8_is_refused(file: Path) -> None:
    file.write_bytes(b"a: \xff")
    with pytest.raises(ConfigError, match=r"the file is not UTF-8 \(byte 3\)"):
        read_file(file)


def test_a_missing_file_is_refused(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read \(no such file"):
        read_file(file)


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read \(is a directory\)"):
        read_file(tmp_path)


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_noise_is_a_tree_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "noise.yaml"
    file.write_text(text, encoding="utf-8")
    try:
        tree, _ = read_file(file)
    except ConfigError as refusal:
        assert refusal.problems  # noqa: PT017 - noise may be a tree
    else:
        assert isinstance(tree, dict)
