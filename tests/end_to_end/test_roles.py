"""As whom a session logs in, with which parameters, and how many may."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from dsqlproxy.emulator.server import Emulator
from dsqlproxy.pgproto.startup import PROTOCOL_3_0, StartupMessage
from tests.end_to_end.wire import (
    RawClient,
    all_ended,
    first_columns,
    logged,
    query,
    startup,
)
from tests.kit.stack import RunningProxy, running_proxy


@asynccontextmanager
async def session(
    proxy: RunningProxy, **parameters: object
) -> "AsyncIterator[psycopg.AsyncConnection[tuple[object, ...]]]":
    connection = await psycopg.AsyncConnection.connect(proxy.dsn(**parameters))
    async with connection:
        yield connection


async def value(
    connection: "psycopg.AsyncConnection[tuple[object, ...]]", sql: str
) -> object:
    (found,) = await (await connection.execute(sql)).fetchone() or (None,)
    return found


@pytest.mark.parametrize("user", ["admin", "somebody", "reader"])
async def test_a_role_that_is_set_is_everyones(emulator: Emulator, user: str) -> None:
    async with (
        running_proxy(emulator, role="admin") as proxy,
        session(proxy, user=user) as connection,
    ):
        assert await value(connection, "select current_user") == "admin"


async def test_one_of_several_roles_may_be_asked_for(emulator: Emulator) -> None:
    async with (
        running_proxy(emulator, roles=["admin", "reader"]) as proxy,
        session(proxy, user="admin") as connection,
    ):
        assert await value(connection, "select current_user") == "admin"


async def test_a_role_that_is_not_served_is_refused_with_those_that_are(
    emulator: Emulator,
) -> None:
    async with running_proxy(emulator, roles=["admin", "reader"]) as proxy:
        async with RawClient.connect(proxy) as client:
            await client.send(startup(user="intruder"))
            error = await client.receive_fatal()
        assert error.sqlstate == "28000"
        assert error.message == 'role "intruder" is not served by this listener'
        assert error.hint == "Connect as admin or reader."
        await logged(proxy, "WARNING session refused.*code=28000")
    assert emulator.counts.connections == 0


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({}, "Set a user name, such as admin."),
        ({"role": "admin"}, "Connect as admin."),
        ({"roles": ["admin", "reader"]}, "Connect as admin or reader."),
    ],
)
@pytest.mark.parametrize("parameters", [(), (("user", ""),)], ids=["none", "empty"])
async def test_a_client_that_names_no_user_is_refused(
    emulator: Emulator,
    settings: dict[str, Any],
    hint: str,
    parameters: tuple[tuple[str, str], ...],
) -> None:
    async with (
        running_proxy(emulator, **settings) as proxy,
        RawClient.connect(proxy) as client,
    ):
        await client.send(StartupMessage(PROTOCOL_3_0, parameters).encode())
        error = await client.receive_fatal()
    assert error.sqlstate == "28000"
    assert error.message == "no PostgreSQL user name specified in startup packet"
    assert error.hint == hint


async def test_sessions_over_the_limit_are_refused_until_one_ends(
    emulator: Emulator,
) -> None:
    async with running_proxy(emulator, max_sessions=2) as proxy:
        async with (
            session(proxy),
            session(proxy),
            RawClient.connect(proxy) as client,
        ):
            await client.send(startup())
            error = await client.receive_fatal()
        assert error.sqlstate == "53300"
        assert error.detail == "The limit is 2."
        assert error.hint == "Close some, or raise max_sessions."
        await all_ended(proxy, emulator)
        async with session(proxy) as connection:
            assert await value(connection, "select 1") == 1
    assert emulator.counts.logins_accepted == 3


async def test_a_failed_login_gives_its_place_back(emulator: Emulator) -> None:
    async with running_proxy(emulator, max_sessions=1) as proxy:
        emulator.add_fault("access-denied")
        for _ in range(3):
            with pytest.raises(psycopg.OperationalError, match="access denied"):
                await psycopg.AsyncConnection.connect(proxy.dsn())
            await all_ended(proxy, emulator)
        emulator.clear_faults()
        async with session(proxy) as connection:
            assert await value(connection, "select 1") == 1


async def test_the_limit_is_each_listeners_own(emulator: Emulator) -> None:
    async with (
        running_proxy(emulator, max_sessions=1) as one,
        running_proxy(emulator, max_sessions=1) as other,
        session(one),
        session(other),
    ):
        assert emulator.open_sessions == 2


@pytest.mark.parametrize("asked", ["postgres", "shop", ""])
async def test_the_database_is_postgres_whatever_is_asked(
    proxy: RunningProxy, asked: str
) -> None:
    async with RawClient.session(proxy, database=asked) as client:
        assert await client.ask("select current_database()") == ["postgres"]


async def test_the_clients_database_is_passed_on_where_it_is_wanted(
    emulator: Emulator,
) -> None:
    async with running_proxy(emulator, database="client") as proxy:
        async with session(proxy, dbname="postgres") as connection:
            assert await value(connection, "select current_database()") == "postgres"
        with pytest.raises(psycopg.OperationalError, match='"shop" does not exist'):
            await psycopg.AsyncConnection.connect(proxy.dsn(dbname="shop"))


UNSUPPORTED = {
    "statement_timeout": "5000",
    "options": "-c work_mem=4MB -c search_path=sales --lock-timeout=1s -d 3",
    "application_name": "report",
    "extra_float_digits": "2",
    "default_transaction_read_only": "on",
}


async def test_parameters_that_dsql_refuses_are_left_out_with_one_warning(
    proxy: RunningProxy,
) -> None:
    async with RawClient.connect(proxy) as client:
        await client.send(startup(**UNSUPPORTED), query("show search_path"))
        greeting = await client.receive_greeting()
        path = first_columns(await client.receive_until_ready())
        digits = await client.ask("show extra_float_digits")
    (warning,) = greeting.notices
    assert warning.severity == "WARNING"
    assert warning.sqlstate == "01000"
    assert warning.message == (
        "startup parameters not supported by Aurora DSQL were left out: "
        '"statement_timeout", "default_transaction_read_only", "work_mem", '
        '"lock_timeout", "-d"'
    )
    assert "unsupported_parameters: pass" in warning.hint
    assert greeting.settings["application_name"] == "report"
    assert greeting.settings["default_transaction_read_only"] == "off"
    assert (path, digits) == (["sales"], ["2"])


async def test_drivers_survive_the_warning(proxy: RunningProxy) -> None:
    notices: list[str | None] = []
    async with session(proxy, options="-c statement_timeout=1") as connection:
        connection.add_notice_handler(lambda notice: notices.append(notice.sqlstate))
        assert await value(connection, "select 1") == 1


@pytest.mark.parametrize(
    ("parameters", "refused"),
    [
        ({"statement_timeout": "5000"}, "statement_timeout"),
        ({"options": "-c work_mem=4MB"}, "work_mem"),
    ],
)
async def test_passed_on_they_are_the_clusters_to_refuse(
    emulator: Emulator, parameters: dict[str, str], refused: str
) -> None:
    async with (
        running_proxy(emulator, unsupported_parameters="pass") as proxy,
        RawClient.connect(proxy) as client,
    ):
        await client.send(startup(**parameters))
        error = await client.receive_fatal()
    assert error.fields == (
        ("S", "FATAL"),
        ("V", "FATAL"),
        ("C", "0A000"),
        ("M", f'setting configuration parameter "{refused}" not supported'),
    )


async def test_startup_options_of_the_listener_come_before_the_clients(
    emulator: Emulator,
) -> None:
    async with (
        running_proxy(
            emulator, startup_options="-c search_path=ours -c datestyle=German"
        ) as proxy,
        session(proxy, options="-c search_path=theirs") as connection,
    ):
        assert await value(connection, "show search_path") == "theirs"
        assert await value(connection, "show datestyle") == "German, DMY"
