"""One test for each kind of setting: what is read, and what is refused how."""

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from dsqlproxy.config import values
from dsqlproxy.config.addresses import TcpAddress
from dsqlproxy.config.refusal import did_you_mean, given as shown
from dsqlproxy.config.values import DecimalInt


@pytest.mark.parametrize("text", ["x", "12", "é", "${HOME}", "a b"])
def test_text_is_taken_as_it_is(text: str) -> None:
    assert values.parse_text(text) == text


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("", "empty"),
        ("a\nb", "control characters"),
        ("a\0", "control characters"),
        ("\x7f", "control characters"),
        (True, "true is a boolean to YAML"),
        (False, "false is a boolean to YAML"),
        (12, "12 is not text to YAML; if it is meant, put quotes around it"),
        (None, "null is not text;"),
        ({"a": 1}, "a mapping is not text"),
        (b"x", "a bytes is not text"),
    ],
    ids=repr,
)
def test_what_is_not_text_is_refused(value: object, complaint: str) -> None:
    with pytest.raises(ValueError, match="accepted: text") as refusal:
        values.parse_text(value)
    assert complaint in str(refusal.value)


def test_a_name_longer_than_postgresql_keeps_is_refused() -> None:
    assert values.parse_identifier("é" * 31) == "é" * 31
    with pytest.raises(ValueError, match=r"has 64 bytes; accepted: .* 63 bytes"):
        values.parse_identifier("é" * 32)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ([], r"\[\] is empty"),
        ("admin", '"admin" is not a list'),
        (None, "null is not a list"),
        (["a", "a"], '"a" is named twice'),
        (["a", ""], "empty"),
        (["a", 1], "quotes"),
    ],
    ids=repr,
)
def test_roles_are_a_list_of_different_names(value: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        values.parse_roles(value)


def test_roles_keep_their_order() -> None:
    assert values.parse_roles(["b", "a"]) == ("b", "a")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("1s", 1), ("60s", 60), (900, 900), ("7d", 604_800), ("2000ms", 2), ("1.5m", 90)],
)
def test_a_token_lives_from_a_second_to_a_week(value: object, seconds: int) -> None:
    lifetime = values.parse_token_lifetime(value)
    assert lifetime == seconds
    assert isinstance(lifetime, int)


@pytest.mark.parametrize(
    "value", ["0s", "999ms", "1.5s", 604_801, "8d", "x", True, None, -1, "", [60]]
)
def test_no_other_token_lifetime_is_accepted(value: object) -> None:
    with pytest.raises(ValueError, match=r"is not a token lifetime; .* 1s to 7d"):
        values.parse_token_lifetime(value)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1s", 1),
        ("2.5s", 2.5),
        ("60m", 3600),
        (30, 30),
        ("24h", 86_400),
        ("1d", 86_400),
    ],
)
def test_a_session_lasts_from_a_second_to_a_day(value: object, seconds: float) -> None:
    assert values.parse_session_limit(value) == seconds


@pytest.mark.parametrize("value", [0, "999ms", "25h", 86_401, float("nan")], ids=repr)
def test_no_other_session_limit_is_accepted(value: object) -> None:
    with pytest.raises(ValueError, match="accepted: a duration") as refusal:
        values.parse_session_limit(value)
    assert "such as" in str(refusal.value)


@pytest.mark.parametrize("value", ["soon", None, True, [60]], ids=repr)
def test_a_session_limit_is_a_duration(value: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        values.parse_session_limit(value)


@pytest.mark.parametrize(
    ("value", "seconds"), [(0, 0), ("0s", 0), ("250ms", 0.25), ("1h", 3600)]
)
def test_a_client_is_held_for_an_hour_at_most(value: object, seconds: float) -> None:
    assert values.parse_hold_timeout(value) == seconds


@pytest.mark.parametrize(
    "value", ["61m", 3600.1, "1d", -1, False, "off", None, float("nan")], ids=repr
)
def test_no_other_hold_timeout_is_accepted(value: object) -> None:
    complaint = "is not a hold timeout; .* 0 to 1h, such as 10s; 0 for not at all"
    with pytest.raises(ValueError, match=complaint):
        values.parse_hold_timeout(value)


@pytest.mark.parametrize("value", [0.01, 0.1, 1, 100, 2.5, 100_000])
def test_a_rate_may_be_a_part_of_one(value: float) -> None:
    rate = values.parse_rate(value)
    assert rate == value
    assert isinstance(rate, float)


@pytest.mark.parametrize(
    "value",
    [0, 0.009, -1, 100_001, float("nan"), float("inf"), "100", True, None, [1]],
    ids=repr,
)
def test_what_is_not_a_rate_is_refused(value: object) -> None:
    complaint = "a number of logins a second; accepted: a number from 0.01 to 100000"
    with pytest.raises(ValueError, match=complaint):
        values.parse_rate(value)


@pytest.mark.parametrize("value", [1, 10, 100_000])
def test_a_burst_is_a_number_from_one(value: float) -> None:
    assert values.parse_burst(value) == value


@pytest.mark.parametrize("value", [0, 0.9, 100_001, "10", True], ids=repr)
def test_what_is_not_a_burst_is_refused(value: object) -> None:
    complaint = "a number of logins at once; accepted: a number from 1 to 100000"
    with pytest.raises(ValueError, match=complaint):
        values.parse_burst(value)


@pytest.mark.parametrize(
    ("value", "mode"),
    [(0o600, 0o600), ("0600", 0o600), ("660", 0o660), ("0o777", 0o777), (0, 0)],
)
def test_a_mode_is_octal(value: object, mode: int) -> None:
    assert values.parse_unix_mode(value) == mode


@pytest.mark.parametrize(
    "value",
    ["", "0o", "0o0o600", "rw", "0800", 0o1000, "1777", -1, True, None, 6.5, "٦٠٠"],
    ids=repr,
)
def test_what_is_not_a_mode_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is not a mode; accepted: an octal mode"):
        values.parse_unix_mode(value)


def test_a_mode_without_its_zero_is_refused_rather_than_guessed() -> None:
    # 400 in decimal is 0620: the socket would be open to the group.
    with pytest.raises(ValueError, match="400 is a decimal number; modes are octal"):
        values.parse_unix_mode(DecimalInt(400))


@pytest.mark.parametrize("value", [0, -1, 1_000_001, 1.0, "5", True, None])
def test_a_count_is_a_whole_number_from_one(value: object) -> None:
    with pytest.raises(ValueError, match="accepted: a whole number from 1 to 1000000"):
        values.parse_count(value)
    assert values.parse_count(DecimalInt(5)) == 5


@pytest.mark.parametrize("value", ["true", "yes", 1, 0, None])
def test_a_switch_is_a_boolean(value: object) -> None:
    with pytest.raises(ValueError, match="accepted: true or false"):
        values.parse_switch(value)
    assert values.parse_switch(True) is True


def test_a_file_is_read_for_being_there(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(b"\xff")
    assert values.parse_readable_file(str(file)) == file
    assert values.parse_readable_file(file) == file


@pytest.mark.parametrize(
    ("name", "reason"),
    [(".", "is a directory"), ("missing", "no such file"), ("x" * 300, "too long")],
    ids=["directory", "missing", "long name"],
)
def test_a_file_that_cannot_be_read_is_refused(
    tmp_path: Path, name: str, reason: str
) -> None:
    with pytest.raises(ValueError, match=f"cannot be read .*{reason}"):
        values.parse_readable_file(str(tmp_path / name))


def test_a_bare_off_is_the_word_where_off_is_a_choice() -> None:
    assert values.parse_choice(False, ("off", "auto")) == "off"
    with pytest.raises(ValueError, match="false is not a choice; accepted: a, b"):
        values.parse_choice(False, ("a", "b"))


@pytest.mark.parametrize("value", [True, "Auto", None, ["auto"]], ids=repr)
def test_a_choice_is_exact(value: object) -> None:
    with pytest.raises(ValueError, match="accepted: off, auto"):
        values.parse_choice(value, ("off", "auto"))


@pytest.mark.parametrize("value", ["off", False])
def test_the_admin_listener_can_be_off(value: object) -> None:
    assert values.parse_admin_listen(value) is None


def test_the_admin_listener_has_an_address_otherwise() -> None:
    assert values.parse_admin_listen("a:1") == TcpAddress("a", 1)
    with pytest.raises(ValueError, match=r"\[::1\]:5432, or off$"):
        values.parse_admin_listen(True)


def test_a_region_is_looked_at() -> None:
    assert values.parse_region("eu-west-1") == "eu-west-1"
    with pytest.raises(ValueError, match="not the name of an AWS region"):
        values.parse_region("us east 1")


def test_a_long_value_is_cut_where_it_is_shown() -> None:
    assert shown("x" * 1000) == '"' + "x" * 255 + '…"'


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("lisen", '; did you mean "listen"?'),
        ("CLIENT-TLS", '; did you mean "client_tls"?'),
        ("xyz", ""),
        (5, ""),
    ],
)
def test_only_a_near_miss_gets_a_suggestion(word: object, answer: str) -> None:
    assert did_you_mean(word, ["listen", "client_tls"]) == answer


@given(st.text())
def test_whatever_is_shown_stays_on_one_line(text: str) -> None:
    assert len(shown(text).splitlines()) == 1
