import pytest

from dsqlproxy.dsql import ACCEPTED_PARAMETERS
from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.sql import split
from dsqlproxy.emulator.wordings import (
    DEFAULT_OPTIONS,
    edits_of,
    stand_in_options,
    stand_in_parameter,
)
from tests.emulator.kit import Client, started

LACKING = ("disable_sync_create_index", "dsql.enable_batched_nestloop")
"""The settings of a cluster that PostgreSQL does not have."""


def _reworded(sql: str) -> str:
    (statement,) = split(sql)
    for edit in reversed(edits_of(statement)):
        sql = sql[: edit.start] + edit.text + sql[edit.end :]
    return sql


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("SET disable_sync_create_index = on", "SET dsql.{} = on"),
        ('set session "Disable_Sync_Create_Index" to x', "set session dsql.{} to x"),
        ("set local DISABLE_SYNC_CREATE_INDEX to on", "set local dsql.{} to on"),
        ("reset disable_sync_create_index", "reset dsql.{}"),
        ("show disable_sync_create_index", "show dsql.{}"),
        ("set application_name to disable_sync_create_index", ""),
        ("set dsql.enable_batched_nestloop to off", ""),
        ("select disable_sync_create_index from t", ""),
        ("reset all", ""),
        ("select set_config($1, $2, false)", "select sys.set_config($1, $2, false)"),
        (
            "select pg_catalog.set_config('disable_sync_create_index', 'on', true)",
            "select sys.set_config('disable_sync_create_index', 'on', true)",
        ),
        ("select set_config('search_path', 'a', false)", ""),
        ("select set_config('jit', $1, false)", ""),
        ("select other.set_config($1, $2, false)", ""),
        ("select set_config from t", ""),
        (
            "select current_setting($1), current_setting('timezone')",
            "select sys.current_setting($1), current_setting('timezone')",
        ),
    ],
)
def test_only_what_postgresql_does_not_know_is_reworded(sql: str, text: str) -> None:
    assert _reworded(sql) == (text.format("disable_sync_create_index") or sql)


@pytest.mark.parametrize(
    ("options", "for_postgres"),
    [
        ("", ""),
        ("-c search_path=a", " -c search_path=a"),
        (
            "-c disable_sync_create_index=on",
            " -c dsql.disable_sync_create_index=on",
        ),
        ("--Disable-Sync-Create-Index=on", " --dsql.disable_sync_create_index=on"),
    ],
)
def test_options_of_the_client_come_after_the_defaults(
    options: str, for_postgres: str
) -> None:
    assert stand_in_options(options) == DEFAULT_OPTIONS + for_postgres


def test_a_startup_parameter_is_named_as_postgresql_can_name_it() -> None:
    named = stand_in_parameter("Disable_sync_create_index")
    assert named == "dsql.disable_sync_create_index"
    assert stand_in_parameter("TimeZone") == "TimeZone"


@pytest.mark.parametrize("name", LACKING)
class TestAsSessionSettings:
    async def test_they_can_be_set_shown_and_reset(
        self, postgres: EmbeddedPostgres, name: str
    ) -> None:
        async with (
            started(postgres, has_rules=True) as emulator,
            Client.session(emulator) as client,
        ):
            (default,) = await client.query(f"show {name}")
            assert default in {"on", "off"}
            await client.query(f"set {name} to other")
            assert await client.query(f"show {name}") == ["other"]
            shown = f"select current_setting('{name}', true)"
            assert await client.query(shown) == ["other"]
            await client.query(f"reset {name}")
            assert await client.query(shown) == [default]
            ask = f"select set_config('{name}', 'third', false)"
            assert await client.query(ask) == ["third"]
            await client.query("reset all")
            assert await client.query(shown) == [default]
            await client.query(f"begin; set local {name} to gone; commit")
            assert await client.query(shown) == [default]

    @pytest.mark.parametrize("way", ["parameter", "options"])
    async def test_they_may_be_given_at_the_start_and_are_reset_to_that(
        self, postgres: EmbeddedPostgres, name: str, way: str
    ) -> None:
        given = {name: "given"}
        if way == "options":
            given = {"options": f"-c {name}=given -c search_path=a"}
        async with (
            started(postgres, has_rules=True) as emulator,
            Client.session(emulator, **given) as client,
        ):
            assert await client.query(f"show {name}") == ["given"]
            await client.query(f"set {name} to other; reset {name}")
            assert await client.query(f"show {name}") == ["given"]
            path = ["a"] if way == "options" else ['"$user", public']
            assert await client.query("show search_path") == path

    async def test_show_calls_the_column_by_their_name(
        self, postgres: EmbeddedPostgres, name: str
    ) -> None:
        async with (
            started(postgres, has_rules=True) as emulator,
            Client.session(emulator) as client,
        ):
            await client.send_query(f"show {name}")
            first, *_ = await client.receive_until_ready()
            assert first.body[2:].partition(b"\0")[0] == name.encode()


async def test_a_session_begins_with_every_setting_of_a_cluster(
    postgres: EmbeddedPostgres,
) -> None:
    settings = ", ".join(
        f"current_setting('{name}', true)" for name in sorted(ACCEPTED_PARAMETERS)
    )
    async with (
        started(postgres, has_rules=True) as emulator,
        Client.session(emulator) as client,
    ):
        ask = f"select num_nulls({settings})::text"
        assert await client.query(ask) == ["0"]
