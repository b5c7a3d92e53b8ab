from collections.abc import Awaitable, Callable

import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.rules import SETUP_SQL
from tests.kit.frames import (
    COPY_DONE,
    FLUSH,
    SYNC,
    bind,
    copy_data,
    describe,
    execute,
    parse,
    query,
)
from tests.kit.ruled import serve_rules
from tests.kit.storm_programs import TABLES, Program, Step, random_program
from tests.kit.storm_runner import (
    Player,
    Transcript,
    Where,
    check_twins,
    elsewhere_on,
    play,
)
from tests.kit.tamper import Tamper
from tests.kit.tamper_plans import Eof, Replace, Swallow, after, before


def socket_of(postgres: EmbeddedPostgres) -> Where:
    return postgres.directory / ".s.PGSQL.5432"


async def played(
    postgres: EmbeddedPostgres,
    program: Program,
    *,
    where: Where | None = None,
    between: Callable[[Player], Awaitable[None]] | None = None,
    **parameters: str,
) -> Transcript:
    await postgres.execute(*TABLES)
    return await play(
        program,
        where or socket_of(postgres),
        elsewhere=elsewhere_on(postgres),
        between=between,
        asks_for_truth=True,
        **parameters,
    )


# -- playing ---------------------------------------------------------------------------


PROGRAM = [
    Step("query", query("select 1; select id from one.t")),
    Step("prepare only", parse("select 2", name="a") + describe("S", "a") + FLUSH),
    Step("half", bind(statement="a") + execute()),
    Step("sync", SYNC),
    Step("fail", parse("select nonsense") + bind() + FLUSH),
    Step("skipped", query("select 3")),
    Step("sync", SYNC),
    Step("begin", query("begin")),
    Step("copy", query("copy sink from stdin")),
    Step("rows", copy_data(b"7\tx\n") + COPY_DONE),
    Step("rollback", query("rollback")),
    Step("elsewhere", elsewhere="alter table shape add column w int"),
    Step("look", query("select * from shape where id = 1")),
]


async def test_each_step_is_read_to_its_end_and_kept(
    postgres: EmbeddedPostgres,
) -> None:
    transcript = await played(postgres, PROGRAM)
    by_step = [
        "".join(kind for step, (kind, _) in transcript.answers if step == number)
        for number in range(1, len(PROGRAM) + 1)
    ]
    assert by_step == [
        *("TDCTDCZ", "1tT", "", "2DCZ", "E", "", "Z"),
        *("CZ", "G", "CZ", "CZ", "", "TDCZ"),
    ]
    assert transcript.letters == "".join(by_step)
    assert transcript.quiet_after == [1, 4, 7, 11, 13]


async def test_the_truth_is_told_at_rest_and_leaves_no_trace(
    postgres: EmbeddedPostgres,
) -> None:
    program = [
        Step("unnamed", parse("select $1::int") + SYNC),
        Step("named", parse("select $1::text, $2::int", name="a") + SYNC),
        Step("set", parse("set timezone to 'Asia/Tokyo'", name="s") + SYNC),
        Step("run", bind(statement="s") + execute() + SYNC),
        Step("use", bind("1") + execute() + SYNC),
    ]
    transcript = await played(postgres, program)
    assert transcript.letters == "1Z1Z1Z2CSZ2DCZ"
    truth = transcript.truths[4]
    assert ("setting", "TimeZone", "Asia/Tokyo", "") in truth
    named = "select $1::text, $2::int"
    assert ("statement", "a", named, "{text,integer}") in truth
    assert [row[1] for row in truth if row[0] == "statement"] == ["a", "s"]
    assert transcript.truths.keys() == {1, 2, 3, 4, 5}


async def test_the_truth_shows_the_unnamed_statement_too(
    postgres: EmbeddedPostgres,
) -> None:
    program = [
        Step("unnamed", parse("select $1::int as one") + SYNC),
        Step("other", parse("select $1::int as two") + SYNC),
        Step("none", query("select 1")),
    ]
    truths = (await played(postgres, program)).truths
    unnamed = [bytes.fromhex(str(truths[step][0][1])) for step in (1, 2, 3)]
    assert b"one" in unnamed[0]
    assert b"two" in unnamed[1]
    assert b"26000" in unnamed[2]


async def test_what_no_two_sessions_share_is_taken_out(
    postgres: EmbeddedPostgres,
) -> None:
    program = [
        Step("moment", query("select clock_timestamp(), 2.5")),
        Step("table", query("select id from one.t")),
        Step("notice", query("listen a; notify a")),
    ]
    check_twins(
        0, program, await played(postgres, program), await played(postgres, program)
    )


async def test_a_server_that_leaves_is_an_error_and_not_a_wait(
    postgres: EmbeddedPostgres,
) -> None:
    async with Tamper(postgres.directory / ".s.PGSQL.5432") as tamper:
        tamper.plan(after("<D"), Eof())
        with pytest.raises(ConnectionResetError, match="in step 1"):
            await played(postgres, PROGRAM, where=(tamper.host, tamper.port))


@pytest.mark.parametrize("seed", range(20))
async def test_two_plays_of_a_random_program_are_the_same(
    seed: int, postgres: EmbeddedPostgres
) -> None:
    program = random_program(seed)
    direct = await played(postgres, program)
    assert len(direct.quiet_after) > 3
    async with Tamper(postgres.directory / ".s.PGSQL.5432") as tamper:
        where = (tamper.host, tamper.port)
        check_twins(seed, program, direct, await played(postgres, program, where=where))


# -- teeth: what a swap may lose is found ----------------------------------------------


async def caught_after(
    postgres: EmbeddedPostgres,
    damage: Callable[[Player], Awaitable[None]],
    *,
    datestyle: str = "ISO, MDY",
) -> int:
    """Play seed after seed with a damage done in between; say when it was seen."""
    for seed in range(40):
        program = random_program(seed)
        direct = await played(postgres, program, datestyle="ISO, MDY")
        moved = await played(postgres, program, between=damage, datestyle=datestyle)
        try:
            # The transcript alone must show it: without asking the server.
            check_twins(seed, program, Transcript(direct.answers), moved)
        except AssertionError as error:
            assert f"seed {seed}: " in str(error)  # noqa: PT017
            return seed
    raise AssertionError("nothing was seen of it")


LOSSES = {
    "named statements": query("deallocate all"),
    "the unnamed statement": query("select 1"),
    "DateStyle": query("reset datestyle"),
    "search_path, which is not reported": query("reset search_path"),
    "all settings": query("reset all"),
}


@pytest.mark.parametrize("loss", LOSSES)
async def test_a_loss_at_rest_is_seen(loss: str, postgres: EmbeddedPostgres) -> None:
    async def lose(player: Player) -> None:
        if player.owed.is_nothing_open:
            await player.aside(LOSSES[loss])

    await caught_after(postgres, lose)


async def test_another_setting_at_the_start_is_seen(
    postgres: EmbeddedPostgres,
) -> None:
    async def nothing(_: Player) -> None:
        pass

    assert await caught_after(postgres, nothing, datestyle="German") == 0


async def test_the_truth_shows_what_the_frames_do_not(
    postgres: EmbeddedPostgres,
) -> None:
    program = [Step("prepare", parse("select 1", name="a") + SYNC)]
    direct = await played(postgres, program)

    async def lose(player: Player) -> None:
        await player.aside(query("deallocate all"))

    moved = await played(postgres, program, between=lose)
    with pytest.raises(AssertionError, match="seed 5: the session is another"):
        check_twins(5, program, direct, moved)


@pytest.mark.parametrize("fault", [Swallow(), Replace(lambda body: body + b"")])
async def test_a_frame_that_is_missing_is_a_difference(
    fault: Swallow | Replace, postgres: EmbeddedPostgres
) -> None:
    program = [Step("query", query("select 1"))]
    direct = await played(postgres, program)
    async with Tamper(postgres.directory / ".s.PGSQL.5432") as tamper:
        tamper.plan(before("<D"), fault)
        where = (tamper.host, tamper.port)
        moved = await played(postgres, program, where=where)
    if isinstance(fault, Replace):
        check_twins(1, program, direct, moved)  # replaced by the same
        return
    with pytest.raises(AssertionError, match=r"seed 1: frame \d+ differs in step 1"):
        check_twins(1, program, direct, moved)


# The emulator's SQL rules change nothing of what a cluster accepts.
@pytest.mark.parametrize("seed", range(10))
async def test_a_program_for_a_cluster_is_the_same_behind_its_rules(
    seed: int, postgres: EmbeddedPostgres
) -> None:
    def shown(transcript: Transcript) -> Transcript:
        is_version = b"server_version\0"
        answers = [one for one in transcript.answers if is_version not in one[1][1]]
        return Transcript(answers)

    program = random_program(seed, dialect="dsql")
    await postgres.execute(*SETUP_SQL)
    direct = await played(postgres, program, user="admin")
    async with serve_rules(postgres.directory / ".s.PGSQL.5432") as ruled:
        where = ("127.0.0.1", ruled.port)
        moved = await played(postgres, program, where=where, user="admin")
    check_twins(seed, program, shown(direct), shown(moved))
