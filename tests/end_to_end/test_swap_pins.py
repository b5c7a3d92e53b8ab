"""What cannot be carried over keeps a session where it is, and ends it at the limit.

Aurora DSQL refuses all of it today; a plain PostgreSQL does not (SWAP.md, 5, 64).
"""

import re
import select
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.session.lifetime import SwapWindow
from dsqlproxy.session.pins import PinReason
from tests.kit.storm import ALWAYS, Weather, aging

LIMIT = 0.4
SOON = 10.0
LARGE = "select length('" + "x" * (3 << 20) + "')"

PINS = {
    PinReason.LISTEN: "listen words",
    PinReason.TEMPORARY: "create temp table t (id int)",
    PinReason.ADVISORY_LOCK: "select pg_advisory_lock(7)",
    PinReason.ROLE: "set role other",
    PinReason.CURSOR: "declare c cursor with hold for select 1",
    PinReason.PREPARE: "prepare p as select 1",
    PinReason.LOAD: "load 'plpgsql'",
    PinReason.MEMORY: LARGE,
}


@pytest.fixture(scope="module")
def old_age(postgres: EmbeddedPostgres) -> Iterator[Weather]:
    with aging(postgres, limit=LIMIT) as weather:
        yield weather


@pytest.fixture(scope="module")
def may_do_all(postgres: EmbeddedPostgres) -> Iterator[None]:
    """Let the client load a library, and be somebody else."""
    superuser = f"host='{postgres.directory}' user=postgres dbname=postgres"
    with psycopg.connect(superuser, autocommit=True) as chief:
        chief.execute("create role other")
        chief.execute("grant other to admin")
        chief.execute("alter role admin superuser")
        yield
        chief.execute("alter role admin nosuperuser")
        chief.execute("drop role other")


@contextmanager
def pinned(
    old_age: Weather, name: str
) -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
    dsn = old_age.served.proxy.dsn(application_name=name)
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as connection:
        yield connection


def lines_of(old_age: Weather, name: str) -> list[str]:
    """Give the log of a session, which is known by its application's name."""
    opened = old_age.wait_for_log(f"session opened .*application_name={name}( |$)")
    (session,) = re.findall(r"session=(\w+)", opened)
    return [line for line in old_age.log if f"session={session}" in line]


def wait_for_end(connection: "psycopg.Connection[tuple[object, ...]]") -> None:
    readable, _, _ = select.select([connection], [], [], SOON)
    assert readable, "nothing was said"


@pytest.mark.usefixtures("may_do_all")
@pytest.mark.parametrize("reason", PINS, ids=str)
def test_a_pinned_session_ends_at_the_limit_and_says_why(
    old_age: Weather, reason: PinReason
) -> None:
    with pinned(old_age, reason) as connection:
        if reason is PinReason.MEMORY:
            connection.pgconn.prepare(b"large", PINS[reason].encode())
        else:
            connection.execute(PINS[reason].encode())
        pid = connection.execute("select pg_backend_pid()").fetchone()
        wait_for_end(connection)
        with pytest.raises(psycopg.errors.AdminShutdown) as caught:
            connection.execute("select 1")
    error = caught.value.diag
    assert error.severity == "FATAL"
    assert error.message_primary is not None
    assert "session limit" in error.message_primary
    assert error.message_detail is not None
    assert reason.sentence in error.message_detail
    assert error.message_hint == "Reconnect."
    assert pid is not None
    old_age.served.settle()
    lines = lines_of(old_age, reason)
    assert len([line for line in lines if "session pinned" in line]) == 1
    assert f"pin={reason}" in "".join(line for line in lines if "pinned" in line)
    assert not [line for line in lines if "upstream swapped" in line]
    assert "reason=session_limit" in lines[-1]


def test_a_pin_that_only_the_last_attempt_finds_is_logged(
    postgres: EmbeddedPostgres,
) -> None:
    instants = dict.fromkeys(("warm", "insist", "last_start", "dead"), 0.2)
    seconds = {f"{name}_seconds": instant for name, instant in instants.items()}
    window = SwapWindow(**seconds, settle_seconds=0.001)
    with aging(postgres, limit=1.0, window=window) as old_age:
        with pinned(old_age, "late") as connection:
            connection.execute("select pg_advisory_lock(9)")
            wait_for_end(connection)
        old_age.served.settle()
        lines = lines_of(old_age, "late")
    assert len([line for line in lines if "pin=advisory_lock" in line]) == 1


def test_a_session_that_is_no_longer_pinned_is_moved(
    postgres: EmbeddedPostgres,
) -> None:
    with (
        aging(postgres, limit=1.0, window=ALWAYS) as old_age,
        pinned(old_age, "passing") as connection,
    ):
        connection.execute("select pg_advisory_lock(8)")
        old_age.wait_for_log("session pinned .*pin=advisory_lock")
        connection.execute("select pg_advisory_unlock(8)")
        old_age.wait_for_swaps(1)
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_transaction_over_the_limit_is_left_to_the_cluster(
    postgres: EmbeddedPostgres,
) -> None:
    with (
        aging(postgres, limit=0.5, cluster_limit=2.5) as old_age,
        pinned(old_age, "open") as connection,
    ):
        connection.execute("begin")
        connection.execute("select 1")
        wait_for_end(connection)
        with pytest.raises(psycopg.OperationalError) as caught:
            connection.execute("select 1")
        old_age.served.settle()
        # The log is written by a thread of its own.
        assert old_age.wait_for_log("session closed .*reason=upstream_lost")
    assert caught.value.sqlstate == "08006"
    assert caught.value.diag.message_detail == (
        "The open transaction was rolled back. The cluster's session limit was reached."
    )
    assert not [line for line in old_age.log if "upstream swapped" in line]


def test_a_transaction_that_ends_in_time_is_followed_by_a_swap(
    postgres: EmbeddedPostgres,
) -> None:
    # Beyond the instant at which an upstream counts as dead, if the cluster lets it.
    with (
        aging(postgres, limit=0.2) as old_age,
        pinned(old_age, "long") as connection,
    ):
        connection.execute("begin")
        connection.execute("set local timezone to 'Asia/Tokyo'")
        connection.execute("select pg_sleep(0.4)")
        connection.execute("commit")
        old_age.wait_for_swaps(1)
        assert connection.execute("show timezone").fetchone() != ("Asia/Tokyo",)
