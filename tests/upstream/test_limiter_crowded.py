"""A cluster that is too busy: everybody pauses, and one goes ahead of the others."""

import asyncio

import pytest

from dsqlproxy.errors import TokenError, UpstreamRejected, UpstreamUnavailable
from dsqlproxy.situations.cluster import Cause
from dsqlproxy.upstream.crowding import Crowding
from dsqlproxy.upstream.limiter import SWAPS_AT_ONCE, LoginLimiter
from tests.upstream.limited import Stage, refusal, stage, turns

WAKING, FULL, RATE = (
    Cause.WAKING_UP,
    Cause.TOO_MANY_CONNECTIONS,
    Cause.RATE_EXCEEDED,
)
CROWDED = [WAKING, FULL, RATE]


async def crowd(on: Stage, cause: Cause = WAKING) -> None:
    """Have one login refused, so that a pause begins; nothing else has come yet."""
    first = on.login("first")
    await turns()
    first.refuse(cause)
    await turns()
    on.inside.clear()


@pytest.mark.parametrize("cause", CROWDED)
async def test_a_thousand_at_a_busy_cluster_knock_once_for_each_pause(
    cause: Cause,
) -> None:
    async with stage(rate=100, burst=1000) as on:
        await crowd(on, cause)
        on.logins(1000)
        await turns()
        assert on.inside == []
        for knocks, pause in enumerate((0.5, 1.0, 2.0, 4.0, 8.0, 8.0), start=1):
            assert on.limiter.paused_for == pytest.approx(pause)
            await on.loop.advance(pause - 0.001)
            assert len(on.inside) == knocks - 1
            await on.loop.advance(0.002)
            assert len(on.inside) == knocks
            await on.loop.advance(5)  # the scout takes its time; so do all others
            (scout,) = on.present
            scout.refuse(cause)
            await turns()
        assert on.inside == ["0", "1", "2", "3", "4", "5"]
        assert on.limiter.waiting == 994


async def test_when_the_scout_is_taken_the_others_follow_in_order() -> None:
    async with stage(rate=100, burst=1000) as on:
        await crowd(on)
        on.logins(20)
        await on.loop.advance(0.501)
        assert on.inside == ["0"]
        assert (on.limiter.paused_for, on.limiter.crowded_by) == (0.0, WAKING)
        on.present[0].leave()
        await turns()
        assert on.inside == [str(number) for number in range(20)]
        assert on.limiter.crowded_by is None


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(refusal(Cause.DENIED), id="refused for another reason"),
        pytest.param(UpstreamUnavailable("no way"), id="no way to the cluster"),
        pytest.param(ConnectionError(), id="anything else"),
    ],
)
async def test_a_scout_that_fails_otherwise_lets_the_others_follow(
    error: Exception,
) -> None:
    async with stage(rate=100, burst=1000) as on:
        await crowd(on)
        on.logins(3)
        await on.loop.advance(0.501)
        on.present[0].fail(error)
        await turns()
        assert on.inside == ["0", "1", "2"]


async def test_a_scout_whose_client_leaves_makes_room_for_the_next() -> None:
    async with stage(rate=100, burst=1000) as on:
        await crowd(on)
        on.logins(3)
        await on.loop.advance(0.501)
        on.present[0].cancel()
        await turns()
        assert on.inside == ["0", "1"]
        assert on.limiter.crowded_by is WAKING


async def test_a_scout_without_a_token_has_not_knocked() -> None:
    # Else one listener without credentials would send a thousand clients of another
    # one to a cluster that still wakes up.
    async with stage(rate=100, burst=1000) as on:
        await crowd(on)
        on.logins(3)
        await on.loop.advance(0.501)
        on.present[0].fail(TokenError("no AWS credentials"))
        await turns()
        assert on.inside == ["0", "1"]
        assert on.limiter.crowded_by is WAKING


async def test_a_scout_that_gives_up_in_the_moment_of_its_turn_passes_it_on() -> None:
    async with stage(rate=100, burst=1000) as on:
        await crowd(on)
        scout, _ = on.logins(2)
        await turns()
        (timer,) = on.loop.pending
        on.loop.now = timer.when
        timer.fire()
        scout.cancel()
        await turns()
        assert on.inside == ["1"]


async def test_when_nobody_waited_for_the_end_of_a_pause_the_next_is_the_scout() -> (
    None
):
    async with stage(rate=100, burst=1000) as on:
        await crowd(on)
        assert on.loop.pending == []
        await on.loop.advance(2)
        on.logins(3)
        await turns()
        assert on.inside == ["0"]


async def test_a_burst_that_is_refused_in_one_moment_is_one_step() -> None:
    async with stage(rate=100, burst=1000) as on:
        burst = on.logins(500)
        await turns()
        for visitor in burst[:400]:
            visitor.refuse(FULL)
        await on.loop.advance(0.3)
        for visitor in burst[400:]:
            visitor.refuse(FULL)
        await turns()
        assert on.limiter.paused_for == pytest.approx(0.2)
        on.login("next")
        await on.loop.advance(0.21)
        assert on.inside[500:] == ["next"]


async def test_a_login_that_began_before_the_pause_does_not_end_it() -> None:
    async with stage(rate=100, burst=1000) as on:
        refused, slow = on.logins(2)
        await turns()
        refused.refuse(FULL)
        await turns()
        on.login("next")
        slow.leave()
        await turns()
        assert on.inside == ["0", "1"]
        assert on.limiter.crowded_by is FULL


async def test_swaps_pause_too_and_the_scout_is_whoever_came_first() -> None:
    async with stage(rate=100, burst=1000) as on:
        await crowd(on)
        on.swap("swap")
        on.login("login")
        on.swap("urgent", is_urgent=True)
        await on.loop.advance(0.501)
        assert on.inside == ["swap"]
        on.present[0].refuse(WAKING)
        await on.loop.advance(1.001)
        assert on.inside == ["swap", "login"]
        on.present[0].leave()
        await turns()
        assert on.inside == ["swap", "login", "urgent"]


async def test_a_swap_that_may_not_go_is_no_scout() -> None:
    async with stage(rate=1000, burst=1000) as on:
        for number in range(SWAPS_AT_ONCE):
            on.swap(f"swap {number}")
        await crowd(on)
        on.swap("waits for a place")
        on.login("login")
        await on.loop.advance(0.501)
        assert on.inside == ["login"]


async def test_swaps_that_end_in_a_pause_do_not_let_others_begin() -> None:
    async with stage(rate=1000, burst=1000) as on:
        swaps = [on.swap(str(number)) for number in range(SWAPS_AT_ONCE)]
        on.swap("next")
        await turns()
        swaps[0].refuse(RATE)
        swaps[1].leave()
        await turns()
        assert on.inside[SWAPS_AT_ONCE:] == []
        await on.loop.advance(0.501)
        assert on.inside[SWAPS_AT_ONCE:] == ["next"]


async def test_a_rate_that_is_exceeded_leaves_no_tokens() -> None:
    async with stage(rate=10, burst=1000) as on:
        await crowd(on, RATE)
        on.logins(20)
        await on.loop.advance(0.501)
        on.present[0].leave()
        await turns()
        assert len(on.inside) == 5  # half a second's
        await on.loop.advance(0.5)
        assert len(on.inside) == 10


async def test_other_causes_leave_the_tokens_as_they_are() -> None:
    async with stage(rate=10, burst=1000) as on:
        await crowd(on, FULL)
        on.logins(20)
        await on.loop.advance(0.501)
        on.present[0].leave()
        await turns()
        assert len(on.inside) == 20


# -- what those who wait are told ------------------------------------------------------


async def test_who_waits_for_a_token_is_told_if_it_takes_longer_than_an_instant() -> (
    None
):
    async with stage(rate=10, burst=1) as on:
        at_once, soon, later = on.logins(3)
        await turns()
        assert (at_once.told, soon.told, later.told) == ([], [], [None])


async def test_who_waits_is_told_that_a_pause_begins_once_for_each_cause() -> None:
    async with stage(rate=10, burst=1) as on:
        at_once, waiting, later = on.logins(3)
        await turns()
        at_once.refuse(FULL)
        await turns()
        assert (at_once.told, waiting.told, later.told) == ([], [FULL], [None, FULL])
        await on.loop.advance(0.501)
        waiting.refuse(FULL)
        await on.loop.advance(1.001)
        assert later.told == [None, FULL]


async def test_who_comes_in_a_pause_or_behind_a_scout_is_told_at_once() -> None:
    async with stage(rate=10, burst=10) as on:
        await crowd(on)
        in_pause = on.login("scout")
        await on.loop.advance(0.501)
        behind = on.login("behind")
        await turns()
        assert (in_pause.told, behind.told) == ([WAKING], [WAKING])
        in_pause.refuse(FULL)
        await turns()
        assert behind.told == [WAKING, FULL]


async def test_when_the_scout_is_taken_those_who_still_wait_are_told_why() -> None:
    async with stage(rate=10, burst=1000) as on:
        await crowd(on, RATE)
        followers = on.logins(8)
        await on.loop.advance(0.501)
        on.present[0].leave()
        await turns()
        assert len(on.inside) == 5
        assert [follower.told[1:] for follower in followers[4:]] == [
            [],  # goes
            [],  # goes in an instant
            [None],
            [None],
        ]


async def test_a_look_at_the_clock_and_the_cause_shows_a_pause() -> None:
    async with stage(rate=100, burst=1000, random=lambda: 0.5) as on:
        assert (on.limiter.paused_for, on.limiter.crowded_by) == (0.0, None)
        await crowd(on)
        assert on.limiter.paused_for == pytest.approx(0.375)
        assert on.limiter.crowded_by is WAKING
        await on.loop.advance(0.2)
        assert on.limiter.paused_for == pytest.approx(0.175)
        await on.loop.advance(100)
        assert on.limiter.paused_for == 0.0
        assert not on.limiter.crowded_by


async def test_what_the_cluster_said_leaves_the_block_as_it_came() -> None:
    async with stage(rate=100, burst=1000) as on:
        error = refusal(WAKING)
        with pytest.raises(UpstreamRejected) as caught:
            async with on.limiter.login():
                raise error
        assert caught.value is error


@pytest.mark.both_loops
async def test_on_a_real_loop_a_sleeping_cluster_is_woken_by_one_at_a_time() -> None:
    crowding = Crowding(random=lambda: 0.0, pauses_seconds=(0.005, 0.01))
    limiter = LoginLimiter(1e4, 1e4, crowding=crowding)
    knocks, under_way, served = 0, 0, 0

    async def knock() -> None:
        nonlocal knocks, under_way
        knocks += 1
        under_way += 1
        try:
            await asyncio.sleep(0)
            if knocks <= 53:
                assert knocks <= 50 or under_way == 1
                raise refusal(WAKING)
        finally:
            under_way -= 1

    async def visit() -> None:
        nonlocal served
        while True:
            try:
                async with limiter.login(within=10.0):
                    await knock()
            except UpstreamRejected:
                continue
            served += 1
            return

    async with asyncio.TaskGroup() as group:
        for _ in range(50):
            group.create_task(visit())
    # All of the first burst, three scouts in vain, and then each once.
    assert (served, knocks) == (50, 103)
    assert (limiter.waiting, limiter.crowded_by) == (0, None)
