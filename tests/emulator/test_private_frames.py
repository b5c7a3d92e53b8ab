"""What a proxy asks for itself, between the requests of its client.

A proxy that moves a session to another upstream reads the session's settings, sets
them again elsewhere, and compares what statements describe. All of that has to get a
cluster's answers here, and to leave the client's names alone.
"""

import pytest

from dsqlproxy.dsql import ACCEPTED_PARAMETERS
from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.pgproto.codes import BackendType
from dsqlproxy.pgproto.framing import Frame
from dsqlproxy.pgproto.messages import ErrorResponse
from tests.emulator.kit import Client, started
from tests.kit.frames import SYNC, bind, close, describe, execute, parse, query

NAMES = sorted(ACCEPTED_PARAMETERS)
CAPTURE = "SELECT {}, current_user, session_user, current_database()".format(
    ", ".join(f"pg_catalog.current_setting('{name}',true)" for name in NAMES)
)
SET_CONFIG = "SELECT pg_catalog.set_config($1,$2,false)"
OTHER_VALUES = {
    "client_encoding": "LATIN1",
    "datestyle": "German, DMY",
    "extra_float_digits": "3",
    "intervalstyle": "iso_8601",
    "search_path": "",
    "timezone": "Asia/Tokyo",
}
"""Values that are no default; ``off`` suits all other settings."""


def private(sql: str, *parameters: str) -> bytes:
    """Give the pipeline around one statement under a name of the proxy's own."""
    name = "dsqlproxy 7c1f"
    return (
        close("S", name)
        + parse(sql, name=name)
        + bind(*parameters, statement=name, portal=name)
        + execute(name)
        + close("P", name)
        + close("S", name)
        + SYNC
    )


async def ask(client: Client, *frames: bytes) -> list[Frame]:
    await client.wire.send(*frames)
    received = [await client.wire.receive_frame()]
    while received[-1].type != BackendType.READY_FOR_QUERY:
        received.append(await client.wire.receive_frame())
    return received


def letters(frames: list[Frame]) -> str:
    """Give the types, ParameterStatus left out: it comes when it comes."""
    return "".join(chr(kind) for kind, _ in frames).replace("S", "")


def values(frames: list[Frame]) -> list[str | None]:
    (row,) = (body for kind, body in frames if kind == BackendType.DATA_ROW)
    found: list[str | None] = []
    position = 2
    for _ in range(int.from_bytes(row[:2])):
        length = int.from_bytes(row[position : position + 4], signed=True)
        position += 4
        found.append(None if length < 0 else row[position : position + length].decode())
        position += max(0, length)
    return found


def refusal(frames: list[Frame]) -> tuple[str, str]:
    (body,) = (body for kind, body in frames if kind == BackendType.ERROR_RESPONSE)
    error = ErrorResponse.decode(body)
    assert not error.get("W")
    return error.sqlstate, error.message


async def test_capture_shows_all_settings_and_who_is_logged_in(
    postgres: EmbeddedPostgres,
) -> None:
    async with (
        started(postgres, has_rules=True) as emulator,
        Client.session(emulator, application_name="tests") as client,
    ):
        received = await ask(client, private(CAPTURE))
        assert letters(received) == "312DC33Z"
        *settings, user, session_user, database = values(received)
        assert (user, session_user, database) == ("admin", "admin", "postgres")
        assert None not in settings
        assert dict(zip(NAMES, settings, strict=True))["application_name"] == "tests"


@pytest.mark.parametrize("name", NAMES)
async def test_each_setting_can_be_set_by_bound_values(
    postgres: EmbeddedPostgres, name: str
) -> None:
    value = OTHER_VALUES.get(name, "off")
    async with (
        started(postgres, has_rules=True) as emulator,
        Client.session(emulator) as client,
    ):
        received = await ask(client, private(SET_CONFIG, name, value))
        assert letters(received) == "312DC33Z"
        received = await ask(client, private(CAPTURE))
        assert values(received)[NAMES.index(name)] == value


@pytest.mark.parametrize("name", ["work_mem", "role", "statement_timeout"])
async def test_a_setting_that_a_cluster_refuses_is_refused_when_bound(
    postgres: EmbeddedPostgres, name: str
) -> None:
    async with (
        started(postgres, has_rules=True) as emulator,
        Client.session(emulator) as client,
    ):
        received = await ask(client, private(SET_CONFIG, name, "1"))
        message = f'setting configuration parameter "{name}" not supported'
        assert refusal(received) == ("0A000", message)


@pytest.mark.parametrize("name", NAMES)
async def test_where_set_config_is_refused_set_still_works(
    postgres: EmbeddedPostgres, name: str
) -> None:
    value = OTHER_VALUES.get(name, "off")
    async with (
        started(postgres, has_rules=True, faults=("refuse-set-config",)) as emulator,
        Client.session(emulator) as client,
    ):
        received = await ask(client, private(SET_CONFIG, name, value))
        assert letters(received) == "3EZ"
        assert refusal(received) == ("0A000", "function set_config not supported")
        received = await ask(client, private(f"SET {name} TO '{value}'"))
        assert letters(received) == "312C33Z"
        found = values(await ask(client, private(CAPTURE)))[NAMES.index(name)]
        assert found == ('""' if name == "search_path" else value)


async def test_the_client_s_own_names_are_left_alone(
    postgres: EmbeddedPostgres,
) -> None:
    async with (
        started(postgres, has_rules=True) as emulator,
        Client.session(emulator) as client,
    ):
        await ask(client, parse("select 'named'", name="s") + SYNC)
        await ask(client, parse("select 'unnamed'") + SYNC)
        described = await ask(client, describe("S", "s") + SYNC)
        assert letters(described) == "tTZ"
        await ask(client, private(CAPTURE))
        await ask(client, private(SET_CONFIG, "timezone", "UTC"))
        assert await ask(client, describe("S", "s") + SYNC) == described
        for name, text in (("s", "named"), ("", "unnamed")):
            received = await ask(client, bind(statement=name) + execute() + SYNC)
            assert values(received) == [text]


async def test_a_sync_alone_is_answered_and_changes_nothing(
    postgres: EmbeddedPostgres,
) -> None:
    async with (
        started(postgres, has_rules=True) as emulator,
        Client.session(emulator) as client,
    ):
        await ask(client, parse("select 'unnamed'") + SYNC)
        ready = await ask(client, SYNC)
        assert ready == [Frame(BackendType.READY_FOR_QUERY, b"I")]
        assert values(await ask(client, bind() + execute() + SYNC)) == ["unnamed"]
        await ask(client, query("begin"))
        ready = await ask(client, SYNC)
        assert ready == [Frame(BackendType.READY_FOR_QUERY, b"T")]


async def test_describe_of_what_is_not_there_fails_as_in_postgresql(
    postgres: EmbeddedPostgres,
) -> None:
    async with (
        started(postgres, has_rules=True) as emulator,
        Client.session(emulator) as client,
    ):
        received = await ask(client, describe("S", "never") + SYNC)
        assert refusal(received)[0] == "26000"


# A cluster has no temporary schema and shows no locks; what a proxy may ask of a plain
# PostgreSQL must not be thought to work here.
@pytest.mark.parametrize("view", ["pg_locks", "pg_cursors", "pg_stat_activity"])
async def test_views_that_a_cluster_lacks_are_refused(
    postgres: EmbeddedPostgres, view: str
) -> None:
    async with (
        started(postgres, has_rules=True) as emulator,
        Client.session(emulator) as client,
    ):
        for sql in (f"TABLE {view}", f"TABLE pg_catalog.{view}"):
            received = await ask(client, private(sql))
            assert refusal(received) == ("0A000", f"relation {view} not supported")
        assert await client.query(f"select '{view}' as {view}") == [view]
