"""What a session has, after each thing it did, on one upstream after another.

A twin around the proxy is asked the same. Numbers in brackets are those of the
catalogue of tests (SWAP.md, 5, part D).
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from hypothesis import example, given, settings, strategies as st

from dsqlproxy.dsql import ACCEPTED_PARAMETERS
from dsqlproxy.emulator.postgres import EmbeddedPostgres
from tests.kit.clients import RULES, serve, wait_until_running
from tests.kit.recording import recorded
from tests.kit.storm import Weather, aging, storming
from tests.kit.twins import Twins, twins

NAMES = sorted(ACCEPTED_PARAMETERS)
VALUES = {
    "application_name": ("it''s", 'a "b" \\c'),
    "client_encoding": ("LATIN1", "WIN1252"),
    "datestyle": ("SQL, DMY", "German"),
    "disable_sync_create_index": ("on", "off"),
    "extra_float_digits": ("0", "3"),
    "intervalstyle": ("iso_8601", "sql_standard"),
    "search_path": ("elsewhere", '"a b", "$user"'),
    "timezone": ("Asia/Tokyo", "<+05>-05"),
}
OF_DSQL = ("disable_sync_create_index", "dsql.enable_batched_nestloop", "timezone")
POSTGRES_ONLY = pytest.mark.parametrize("storm", [False], indirect=True, ids=[""])
ALL = "select " + ", ".join(f"current_setting('{name}', true)" for name in NAMES)


@pytest.fixture(scope="module", params=RULES)
def storm(
    request: pytest.FixtureRequest, postgres: EmbeddedPostgres
) -> Iterator[Weather]:
    with storming(postgres, has_rules=request.param) as weather:
        yield weather


@pytest.fixture(scope="module")
def direct_dsn(storm: Weather, postgres: EmbeddedPostgres) -> Iterator[str]:
    """The way for the twin: around the proxy, or, with the rules, without swaps."""
    if not storm.served.has_rules:
        yield storm.served.direct_dsn
        return
    with serve(postgres, has_rules=True, is_empty=False) as calm:
        yield calm.dsn


@pytest.fixture
def pair(storm: Weather, direct_dsn: str) -> Iterator[Twins]:
    with storm.blowing(at_least=3), twins(direct_dsn, storm.served.dsn) as pair:
        yield pair


# -- settings ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("storm", "name"),
    [
        *(pytest.param(False, name, id=name) for name in NAMES),
        *(pytest.param(True, name, id=f"{name}-rules") for name in OF_DSQL),
    ],
    indirect=["storm"],
)
def test_a_setting_is_kept_in_each_way_of_setting_it(  # (44, 46)
    pair: Twins, name: str
) -> None:
    first, second = VALUES.get(name, ("off", "on"))
    ask = f"select current_setting('{name}', true)"
    # Each line is one unit: it asks what was carried over, then changes it.
    pair.ask(f"{ask}; set {name} to '{first}'; {ask}")
    pair.ask(f"{ask}; begin; set local {name} to '{second}'; {ask}; commit")
    pair.ask(ask, "begin", f"set {name} to '{second}'", ask, "rollback")
    pair.ask(f"{ask}; select set_config('{name}', '{second}', false); {ask}")
    pair.ask(f"{ask}; select set_config('{name}', '{first}', true); {ask}")
    pair.ask(f"{ask}; reset {name}; {ask}", f"{ask}; set session {name} = '{first}'")
    pair.ask(f"{ask}; set {name} to '{second}'; select 1 / 0", ask, "reset all", ALL)


def test_all_settings_at_once_and_back(pair: Twins) -> None:
    for number in (0, 1):
        values = {name: VALUES.get(name, ("off", "on"))[number] for name in NAMES}
        pair.ask(*(f"set {name} to '{value}'" for name, value in values.items()), ALL)
    pair.ask("; ".join(f"reset {name}" for name in NAMES), ALL)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(r"-c search_path=\"a\ b\",c -c timezone=Asia/Tokyo", id="space"),
        pytest.param("--enable-seqscan=off --extra_float_digits=0", id="long"),
        pytest.param(r"-csearch_path=\"a\\b\" -c DateStyle=SQL,\ DMY", id="backslash"),
    ],
)
def test_a_reset_goes_back_to_what_was_asked_for_at_startup(  # (44, 48, 49)
    storm: Weather, direct_dsn: str, options: str
) -> None:
    asked = {"options": options, "application_name": "it's", "client_encoding": "utf8"}
    with storm.blowing(10), twins(direct_dsn, storm.served.dsn, **asked) as pair:
        pair.ask("select 1", ALL)
        for name in ("search_path", "timezone", "enable_seqscan", "datestyle"):
            value = VALUES.get(name, ("on",))[0]
            pair.ask(f"set {name} to '{value}'", ALL, f"reset {name}", ALL)
        pair.ask("set application_name to 'x'", "reset all", ALL)


@pytest.mark.parametrize("name", ["search_path", "application_name"])
def test_any_value_is_kept_as_it_is(  # (44, 45)
    storm: Weather, direct_dsn: str, name: str
) -> None:
    words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=70)
    paths = st.lists(words.map(lambda word: '"' + word.replace('"', '""') + '"'))

    # What is not ASCII is told in four bytes for one, and a name has 63 at most.
    @example("ž" * 40)
    @settings(max_examples=12)
    @given(words | paths.map(", ".join))
    def check(value: str) -> None:
        def set_it(twin: psycopg.Connection[tuple[object, ...]]) -> tuple[object, ...]:
            query = "select set_config(%s, %s, false)"
            try:
                return tuple(twin.execute(query, (name, value)).fetchall())
            except psycopg.Error as error:
                return (error.sqlstate,)

        asked.both(set_it)
        asked.ask(f"select current_setting('{name}'), current_schemas(true)")

    with storm.blowing(10), twins(direct_dsn, storm.served.dsn) as asked:
        check()


@POSTGRES_ONLY
def test_a_setting_that_a_function_changes_is_kept(  # (47)
    storm: Weather, pair: Twins
) -> None:
    with psycopg.connect(storm.served.direct_dsn, autocommit=True) as direct:
        direct.execute(
            "create or replace function sets(name text, value text) returns text"
            " as $$ select set_config(name, value, false) $$ language sql"
        )
    for name, value in (("timezone", "Asia/Tokyo"), ("search_path", "a, public")):
        pair.ask(f"select public.sets('{name}', '{value}')", f"show {name}", ALL)


@POSTGRES_ONLY
def test_a_setting_that_dsql_lacks_is_kept(pair: Twins) -> None:
    show = "select current_setting('work_mem'), current_setting('my.own', true)"
    pair.ask("set work_mem to '8MB'", show, "set my.own to 'it''s'", show)
    pair.ask("begin; set work_mem to '9MB'; rollback", show, "reset work_mem", show)


# -- prepared statements -------------------------------------------------------------


def test_a_statement_means_what_it_meant_when_it_was_prepared(pair: Twins) -> None:
    pair.ask("set datestyle to 'ISO, MDY'")  # (51)
    for name in ("", "named"):
        pair.ask("set datestyle to 'ISO, MDY'")
        pair.prepare(name, "select '01/02/2020'::date, $1::date")
        pair.use(name, b"01/02/2020")
        if name:
            pair.ask("set datestyle to 'SQL, DMY'", "set timezone to 'Asia/Tokyo'")
            assert pair.use(name, b"01/02/2020")[2] == [(b"02/01/2020", b"01/02/2020")]
            pair.ask("reset all", "show datestyle")
            pair.use(name, b"01/02/2020", binary=True)


def test_a_text_means_the_characters_that_it_meant(pair: Twins) -> None:  # (50)
    pair.ask("set client_encoding to latin1")
    pair.prepare("latin", "select 'é', length('é'), $1::text")
    pair.use("latin", b"\xe9")
    pair.ask("set client_encoding to win1252")
    pair.prepare("windows", "select '€'")
    pair.ask("set client_encoding to utf8")
    assert pair.use("latin", b"x")[2] == [("é".encode(), b"1", b"x")]
    assert pair.use("windows")[2] == [("€".encode(),)]
    pair.ask("set client_encoding to sjis")
    pair.prepare("japanese", "select '表', length('表')")
    pair.use("japanese")
    pair.ask("reset client_encoding")
    assert pair.use("japanese")[2] == [("表".encode(), b"1")]


def test_the_unnamed_statement_lives_as_long_as_it_should(pair: Twins) -> None:
    pair.prepare("", "select $1::int + 1")  # (57)
    for number in (b"1", b"2", b"3"):
        pair.use("", number)
    pair.prepare("other", "select 'other'")
    pair.use("other")
    assert pair.use("", b"4")[2] == [(b"5",)]
    pair.ask("select 1")  # (58)
    assert "does not exist" in str(pair.use("", b"5"))
    pair.prepare("", "select 'again'")
    pair.prepare("", "selec")
    pair.use("")


def test_a_statement_that_was_closed_is_gone(pair: Twins) -> None:  # (59)
    for name in ("a", "b", "c"):
        pair.prepare(name, f"select '{name}'")
    pair.close("a")
    assert "does not exist" in str(pair.use("a"))
    assert pair.use("b")[2] == [(b"b",)]
    pair.prepare("b", "select 'twice'")
    pair.use("b")
    pair.close("nobody")
    pair.ask("deallocate all")
    assert "does not exist" in str(pair.use("b"))
    pair.prepare("b", "select 'new'")
    assert pair.use("b")[2] == [(b"new",)]


def test_a_statement_finds_its_table_by_the_search_path(  # (54)
    pair: Twins, storm: Weather
) -> None:
    with psycopg.connect(storm.served.direct_dsn, autocommit=True) as direct:
        direct.execute("drop schema if exists one, two cascade")
        for schema in ("one", "two"):
            direct.execute(f"create schema {schema}")
            direct.execute(f"create table {schema}.t as select '{schema}' as v")
    pair.ask("set search_path to one")
    pair.prepare("reads", "select v from t")
    assert pair.use("reads")[2] == [(b"one",)]
    pair.ask("set search_path to two")
    assert pair.use("reads")[2] == [(b"two",)]
    pair.use("reads")


def test_a_statement_may_be_large_or_empty_or_have_types(pair: Twins) -> None:  # (53)
    large = "select length('" + "x" * (1 << 20) + "'), $1::text"
    pair.prepare("large", large)
    pair.prepare("empty", "")
    pair.prepare("typed", "select $1, $2", 23, 25)
    pair.prepare("more", "select $1", 23, 25, 17)
    for _ in range(2):
        pair.use("large", b"y")
        pair.use("empty")
        pair.use("typed", b"7", b"seven")
        pair.use("more", b"7", b"8", b"9")


@POSTGRES_ONLY
def test_five_hundred_statements_are_listed_as_they_were_made(  # (53, 61)
    storm: Weather, direct_dsn: str
) -> None:
    listed = (
        "select name, statement, parameter_types, result_types, from_sql"
        " from pg_prepared_statements order by name"
    )
    with twins(direct_dsn, storm.served.dsn, prepare_threshold=1) as pair:
        for twin in (pair.direct, pair.moved):
            twin.prepared_max = None
            with twin.pipeline():  # one by one each would be moved with all before it
                for number in range(500):
                    query = f"select %s::int, {number}".encode()
                    twin.execute(query, (1,), prepare=True)
        with storm.blowing(4):
            (answer,) = pair.ask(listed)
            assert len(answer) == 501
            pair.use("_pg3_7", b"1")
            pair.use("_pg3_499", b"2")
            pair.ask(listed)


@POSTGRES_ONLY
def test_a_stale_statement_is_left_behind(storm: Weather) -> None:  # (55)
    dsn = storm.served.dsn
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as moved:
        moved.execute("drop table if exists changing")
        moved.execute("create table changing (id int)")
        moved.pgconn.prepare(b"stale", b"select * from changing")
        moved.pgconn.prepare(b"good", b"select 'good'")
        moved.execute("alter table changing add column more int")
        assert moved.execute("select 1").fetchone() == (1,)
        result = moved.pgconn.exec_prepared(b"stale", ())
        assert b'prepared statement "stale" does not exist' in result.error_message
        assert moved.pgconn.exec_prepared(b"good", ()).ntuples == 1


# -- what the server tells, and is told ------------------------------------------------


@POSTGRES_ONLY
def test_a_new_reported_value_is_told_once(  # (63)
    storm: Weather, postgres: EmbeddedPostgres
) -> None:
    served = storm.served
    superuser = f"host='{postgres.directory}' user=postgres dbname=postgres"
    with (
        psycopg.connect(superuser, autocommit=True) as chief,
        recorded((served.host, served.port)) as way,
    ):
        try:
            with storm.blowing(5), psycopg.connect(way.dsn, autocommit=True) as moved:
                moved.execute("select 1")
                chief.execute("alter database postgres set scram_iterations to 5000")
                chief.execute("alter database postgres set timezone to 'Asia/Tokyo'")
                for _ in range(5):
                    moved.execute("select 1")
                status = moved.info.parameter_status
                assert status("scram_iterations") == "5000"
                # What the session had stays: nobody else may change it.
                assert status("TimeZone") != "Asia/Tokyo"
                assert moved.execute("show timezone").fetchone() != ("Asia/Tokyo",)
            served.settle()
        finally:
            chief.execute("alter database postgres reset all")
    told = [body for kind, body in way.frames if kind == "S" and b"scram" in body]
    assert told == [b"scram_iterations\x004096\0", b"scram_iterations\x005000\0"]
    told = [body for kind, body in way.frames if kind == "S" and b"TimeZone" in body]
    assert len(told) == 1


def test_the_key_of_a_session_cancels_on_every_upstream(storm: Weather) -> None:  # (62)
    with (
        storm.blowing(4),
        psycopg.connect(storm.served.dsn, autocommit=True) as moved,
        ThreadPoolExecutor(1) as executor,
    ):
        for seconds in ("65.1", "65.2", "65.3"):
            sleeping = executor.submit(
                moved.execute, f"select pg_sleep({seconds})".encode()
            )
            wait_until_running(storm.served, f"pg_sleep({seconds})")
            moved.cancel_safe()
            with pytest.raises(psycopg.errors.QueryCanceled):
                sleeping.result(10)
            assert moved.execute("select 1").fetchone() == (1,)


def test_an_idle_session_keeps_all_it_has_over_its_years(
    postgres: EmbeddedPostgres,
) -> None:
    with (
        aging(postgres, limit=0.2, has_rules=True) as years,
        psycopg.connect(years.served.dsn, autocommit=True) as moved,
    ):
        moved.execute("set timezone to 'Asia/Tokyo'")
        moved.pgconn.prepare(b"kept", b"select 'kept'")
        moved.pgconn.prepare(b"", b"select 'unnamed'")
        for _ in range(3):
            years.wait_for_swaps(1)
            assert moved.pgconn.exec_prepared(b"", ()).ntuples == 1
            assert moved.pgconn.exec_prepared(b"kept", ()).ntuples == 1
        assert moved.execute("show timezone").fetchone() == ("Asia/Tokyo",)
