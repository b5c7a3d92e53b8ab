import pytest

from dsqlproxy.emulator.parameters import (
    find_setting_refusal,
    refused_startup_parameter,
    split_options,
)
from dsqlproxy.emulator.sql import split


def _refusal(sql: str, *, refuse_set_config: bool = False) -> str:
    (statement,) = split(sql)
    refusal = find_setting_refusal(statement, refuse_set_config=refuse_set_config)
    return refusal.message if refusal else ""


@pytest.mark.parametrize(
    "sql",
    [
        "SET application_name = 'x'",
        "set search_path to a, b",
        "SET SESSION DateStyle TO ISO",
        "SET LOCAL enable_seqscan = off",
        "SET TIME ZONE 'UTC'",
        "SET LOCAL TIME ZONE LOCAL",
        "SET NAMES 'UTF8'",
        "SET SCHEMA 'x'",
        'SET "search_path" = x',
        "SET dsql.enable_batched_nestloop = on",
        "SET LOCAL ROLE reader",
        "SET SESSION AUTHORIZATION DEFAULT",
        "SET CONSTRAINTS ALL DEFERRED",
        "RESET ALL",
        "RESET ROLE",
        "RESET SESSION AUTHORIZATION",
        "RESET search_path",
        "RESET TIME ZONE",
        "BEGIN",
        "BEGIN READ ONLY",
        "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        "START TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "COMMIT",
        "COMMIT AND NO CHAIN",
        "END",
        "ABORT",
        "ROLLBACK WORK",
        "SELECT set_config('search_path', '', false)",
        "SELECT set_config($1, $2, false)",
        "SELECT current_setting('jit') AS cur, set_config('jit', 'off', false)",
        "SELECT set_config FROM t",
        "SELECT 'set_config(work_mem)'",
    ],
)
def test_what_a_cluster_accepts_is_accepted(sql: str) -> None:
    assert _refusal(sql) == ""


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("SET statement_timeout = 0", "statement_timeout"),
        ("SET Work_Mem TO 1", "work_mem"),
        ("SET SESSION client_min_messages = warning", "client_min_messages"),
        ("SET LOCAL lock_timeout = 1", "lock_timeout"),
        ("SET my.thing = 1", "my.thing"),
        ("SET ROLE reader", "role"),
        ("SET SESSION ROLE reader", "role"),
        ("SET SESSION AUTHORIZATION reader", "session_authorization"),
        ("SET XML OPTION CONTENT", "xmloption"),
        ("SET TRANSACTION READ ONLY", "TRANSACTION"),
        ("SET TRANSACTION SNAPSHOT 'x'", "TRANSACTION SNAPSHOT"),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            "SESSION CHARACTERISTICS",
        ),
        ("SET default_transaction_isolation = 'x'", "default_transaction_isolation"),
        ("SET transaction_isolation = 'x'", "transaction_isolation"),
        ("SET names = 1", "names"),
        ("SET local = 1", "local"),
        ("RESET work_mem", "work_mem"),
        ("RESET TRANSACTION ISOLATION LEVEL", "transaction_isolation"),
        ("SELECT pg_catalog.set_config('work_mem', '1', false)", "work_mem"),
        ("SELECT set_config('role', 'x', true)", "role"),
    ],
)
def test_every_other_setting_is_refused_by_its_name(sql: str, name: str) -> None:
    expected = f'setting configuration parameter "{name}" not supported'
    assert _refusal(sql) == expected


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", "SERIALIZABLE"),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY", "SERIALIZABLE"),
        ("BEGIN READ ONLY ISOLATION LEVEL READ COMMITTED", "READ COMMITTED"),
        ("START TRANSACTION ISOLATION LEVEL READ UNCOMMITTED", "READ UNCOMMITTED"),
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SERIALIZABLE"),
    ],
)
def test_other_isolation_levels_are_refused_by_name(sql: str, message: str) -> None:
    assert _refusal(sql) == f"Unsupported isolation level: {message}"


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("SAVEPOINT a", "SAVEPOINT"),
        ("RELEASE a", "RELEASE"),
        ("ROLLBACK TO a", "ROLLBACK TO"),
        ("ROLLBACK WORK TO SAVEPOINT a", "ROLLBACK TO"),
        ("COMMIT PREPARED 'x'", "COMMIT PREPARED"),
        ("COMMIT AND CHAIN", "COMMIT AND CHAIN"),
    ],
)
def test_unsupported_transaction_statements_are_named(sql: str, what: str) -> None:
    assert _refusal(sql) == f"unsupported transaction statement: {what}"


def test_set_config_is_refused_on_command() -> None:
    sql = "SELECT set_config('search_path', $1, false)"
    assert _refusal(sql, refuse_set_config=True) == "function set_config not supported"
    assert _refusal("SELECT 1", refuse_set_config=True) == ""


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ("-c a=b", [("a", "b")]),
        ("-ca=b  --c-d=e", [("a", "b"), ("c-d", "e")]),
        (r"-c a=b\ c\\d", [("a", r"b c\d")]),
        ("-c", [("", "")]),
        ("-e -c a", [("-e", ""), ("a", "")]),
        (r"-c a=\ ", [("a", " ")]),
        ("", []),
    ],
)
def test_options_are_read_as_postgresql_reads_them(
    options: str, settings: list[tuple[str, str]]
) -> None:
    assert list(split_options(options)) == settings


@pytest.mark.parametrize(
    ("parameters", "refused"),
    [
        ({"user": "admin", "database": "postgres", "application_name": "x"}, None),
        ({"TimeZone": "UTC", "DateStyle": "ISO", "_pq_.x": "1"}, None),
        ({"default_transaction_read_only": "on"}, "default_transaction_read_only"),
        ({"role": "reader"}, "role"),
        ({"options": "-c amzn-cluster-id=abc -c search_path=x"}, None),
        ({"options": "--extra-float-digits=3"}, None),
        (
            {"options": r"-c search_path=a\ b --statement_timeout=5"},
            "statement_timeout",
        ),
        ({"options": "-cgeqo=off", "work_mem": "1"}, "geqo"),
        ({"options": "-e"}, "-e"),
    ],
)
def test_the_first_refused_startup_parameter_is_named(
    parameters: dict[str, str], refused: str | None
) -> None:
    assert refused_startup_parameter(tuple(parameters.items())) == refused
