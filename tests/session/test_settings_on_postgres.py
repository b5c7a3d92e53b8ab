"""Each setting carried from one PostgreSQL 16 upstream to another, in every way.

Also to a server that has no set_config, and that does not answer what Aurora DSQL
does not. Numbers are those of the swap's catalogue of tests, part D.
"""

from pathlib import Path

import pytest

from dsqlproxy.session.settings import BASE_NAMES
from tests.kit.frames import SYNC, parse, query
from tests.kit.private import carried, compare, use

VALUES: dict[str, list[str]] = {
    "application_name": ["it's", "", 'a"b', "back\\slash"],
    "client_encoding": ["LATIN1", "SQL_ASCII", "WIN1252"],
    "datestyle": ["SQL, DMY", "German", "Postgres, YMD"],
    "extra_float_digits": ["-15", "0", "3"],
    "intervalstyle": ["iso_8601", "sql_standard", "postgres_verbose"],
    "timezone": ["Asia/Tokyo", "+05:30", "<+03>-03", "PST8PDT"],
    "search_path": ["s1", 's1, "$user", public', ""],
    **{name: ["off", "on"] for name in BASE_NAMES if name.startswith("enable_")},
    "dsql.enable_batched_nestloop": ["on", "off"],
    "disable_sync_create_index": ["on"],
}


# 44: each of the names, by each of the ways (49: and by the options at startup).
@pytest.mark.parametrize("name", BASE_NAMES)
def test_each_setting_is_carried_over(name: str, directory: Path) -> None:
    for value in VALUES[name]:
        literal = "'" + value.replace("'", "''") + "'"
        compare(
            directory,
            [
                query(f"set {name} to {literal}"),
                query(f"show {name}"),
                query(f"begin; set local {name} to default; commit"),
                query(f"reset {name}"),
                query(f"select set_config('{name}', {literal}, false)"),
                query(f"show {name}"),
                query(f"set session {name} to default"),
            ],
        )


def test_a_reset_goes_back_to_the_startup_packet(directory: Path) -> None:  # 48, 49
    program = [
        query("set datestyle to german; set search_path to public"),
        query("reset datestyle"),
        query("reset all"),
        query("show search_path"),
        query("show work_mem"),
    ]
    compare(
        directory,
        program,
        options=r"-c search_path=s1,\ public --work-mem=5MB -c geqo=off",
        TimeZone="Asia/Tokyo",
        DateStyle="SQL, DMY",
    )


NASTY_PATHS = [
    "''", '""', '"$user"', '"$user", public', "a,b", "$user,public", '"a,b"', '"s""2"',
    '"ünï"', "s1 ,  public", '"UPPER", Lower', '""", "', "'", '"it\'s"', '"\\"',
    '"' + "x" * 63 + '"', "pg_catalog", '" "',
]  # fmt: skip


@pytest.mark.parametrize("path", NASTY_PATHS)
def test_a_nasty_search_path_survives(path: str, directory: Path) -> None:  # 45
    value = "" if path == "''" else path
    literal = "'" + value.replace("'", "''") + "'"
    show = query("select current_setting('search_path'), current_schemas(true)::text")
    compare(
        directory,
        [
            query(f"select set_config('search_path', {literal}, false)"),
            show,
            query("set client_encoding to latin1"),
            show,
        ],
    )
    compare(
        directory,
        [
            query(
                f"select set_config('search_path', {literal}, false);"
                "set client_encoding to latin1"
            ),
            show,
        ],
    )


# -- a server that knows less ----------------------------------------------------------

LIMITS = (
    "revoke execute on function pg_catalog.set_config from public;"
    "revoke select on pg_catalog.pg_locks, pg_catalog.pg_settings from public;"
    'grant usage on schema public to plain; create schema s1; create schema "ünï";'
    "grant all on schema s1 to plain"
)


@pytest.fixture(scope="module")
def limited(directory: Path) -> str:
    """A database with no set_config, and without the views that DSQL has not got."""
    with carried(directory, database="limited") as owner:
        owner.ask(query(LIMITS))
    return "limited"


@pytest.mark.parametrize("path", ["s1", '"ünï", "a,b"', '"it\'s", "$user"', "''", '""'])
def test_without_set_config_a_set_does(
    path: str, limited: str, directory: Path
) -> None:  # 72
    compare(
        directory,
        [
            query(f"set search_path to {path}"),
            query("set datestyle to 'SQL, DMY'"),
            parse("select '01/02/2020'::date", name="d") + SYNC,
            query("set application_name to 'it''s'"),
            query("set datestyle to german"),
            use("d"),
            query("select current_schemas(true)::text"),
            query("show application_name"),
        ],
        user="plain",
        database=limited,
    )


def test_without_set_config_a_backslash_survives(limited: str, directory: Path) -> None:
    compare(
        directory,
        [
            query("set standard_conforming_strings to off"),
            query("set application_name to E'back\\\\slash'"),
            query("show application_name"),
        ],
        user="plain",
        database=limited,
    )


def test_without_set_config_a_path_of_the_startup_packet_means_the_same(
    limited: str, directory: Path
) -> None:
    with carried(
        directory, user="plain", database=limited, search_path="s1,public"
    ) as session:
        session.swap()
        assert session.values("show search_path") == [[b"s1,public"]]
        session.ask(query("set search_path to default"))
        session.swap()
    with carried(directory, user="plain", database=limited) as session:
        session.parameters = (*session.parameters, ("search_path", "s1,public"))
        session.swap()
        assert session.values("show search_path") == [[b'"$user", public']]


def test_a_question_that_is_refused_is_not_asked_again(
    limited: str, directory: Path
) -> None:
    with carried(directory, user="plain", database=limited) as session:
        session.ask(query("set ssl_ciphers to 'x'; set my.own to 'y'"))
        session.ask(query("set my.own to 'y'"))
        session.memory.mention(["config_file"])  # only a superuser may see it
        session.swap()
        session.take_snapshot()
        assert session.memory.snapshot is not None
        assert session.memory.snapshot.values[0] == ("client_encoding", b"UTF8")
