import asyncio
import socket
from datetime import datetime
from http.client import RemoteDisconnected
from typing import Any

import botocore.exceptions
import pytest

from dsqlproxy.emulator.server import wall_clock
from dsqlproxy.emulator.sigv4 import AccessKey
from tests.kit.aws_stand_ins import Home, StandIns, aws_stand_ins
from tests.kit.aws_stand_ins.fetching import ROLE, Fetch, a_role, ask, minted, parts


def test_given_credentials_are_answered(
    aws: StandIns, home: Home, fetch: Fetch
) -> None:
    a_role(aws, home)
    given = aws.mint.mint(ROLE, lifetime=1800)
    aws.sts.assume_role.answer(given)
    assert fetch(AWS_PROFILE="app") == parts(given.key)
    assert aws.mint.temporary == (given,)


def test_fresh_credentials_last_as_long_as_they_are_told_to(
    aws: StandIns, home: Home, fetch: Fetch
) -> None:
    a_role(aws, home)
    aws.sts.assume_role.answer(lifetime=1200)
    fetch(AWS_PROFILE="app")
    expires = datetime.fromisoformat(aws.mint.last.expiration).timestamp()
    assert expires == pytest.approx(wall_clock() + 1200, abs=5)


def test_each_new_key_is_told_before_it_is_given(
    aws: StandIns, home: Home, fetch: Fetch
) -> None:
    told: list[AccessKey] = []
    aws.mint.on_key = told.append
    key = a_role(aws, home)
    fetch(AWS_PROFILE="app")
    assert told == [key, aws.mint.last.key]


async def test_a_call_is_held_until_it_is_released(
    aws: StandIns, home: Home, fetch: Fetch
) -> None:
    a_role(aws, home)
    aws.sts.assume_role.hang()
    async with asyncio.TaskGroup() as group:
        fetched = group.create_task(asyncio.to_thread(fetch, AWS_PROFILE="app"))
        await aws.sts.assume_role.wait_for_calls(1)
        assert aws.mint.temporary == ()
        aws.sts.assume_role.release()
        assert await fetched == minted(aws)


async def test_a_call_that_was_held_gets_what_is_done_then(
    aws: StandIns, home: Home, fetch: Fetch
) -> None:
    aws.imds.hang()
    a_role(aws, home)
    aws.sts.assume_role.hang()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(
            refused_by_aws(asyncio.to_thread(fetch, AWS_PROFILE="app"))
        )
        await aws.sts.assume_role.wait_for_calls(1)
        aws.sts.assume_role.deny("AccessDenied", "not any more")
        aws.sts.assume_role.release()
        assert "not any more" in await task


async def test_fifty_calls_are_held_at_once(aws: StandIns) -> None:
    aws.imds.hang()
    address = ("127.0.0.1", aws.server.server_address[1])

    async def call() -> bytes:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(
            b"GET /latest/meta-data/iam/security-credentials/ HTTP/1.0\r\n\r\n"
        )
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer.partition(b"\r\n")[0]

    aws.imds.allows_version_1 = True
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(call()) for _ in range(50)]
        await aws.imds.role.wait_for_calls(50)
        aws.imds.release()
    assert {each.result() for each in calls} == {b"HTTP/1.0 200 OK"}


async def test_who_gives_up_while_it_is_held_is_not_missed(aws: StandIns) -> None:
    aws.process.run.hang()
    with socket.create_connection(("127.0.0.1", aws.process.port)) as client:
        client.sendall(b"GET /credential-process HTTP/1.0\r\n\r\n")
        await aws.process.run.wait_for_calls(1)
    aws.process.run.release()
    assert ask(aws, "/credential-process")[0] == 200


async def test_calls_that_do_not_come_are_not_waited_for_without_end(
    aws: StandIns,
) -> None:
    with pytest.raises(TimeoutError):
        await aws.sts.assume_role.wait_for_calls(1, within=0.01)
    with pytest.raises(TimeoutError):
        aws.sts.assume_role.block_for_calls(1, within=0.01)


def test_calls_that_have_come_are_not_waited_for(aws: StandIns) -> None:
    ask(aws, "/federation/credentials?role_name=a&account_id=1")
    aws.sso.get_role_credentials.block_for_calls(1)


def test_a_client_that_says_nothing_does_not_keep_the_stand_ins() -> None:
    with aws_stand_ins() as short_lived:
        address = ("127.0.0.1", short_lived.server.server_address[1])
        silent = socket.create_connection(address)
        # Connections are accepted in order: after this one, that one is, too.
        ask(short_lived, "/")
    with silent:
        assert silent.recv(1) == b""


def test_a_fault_of_the_stand_ins_fails_the_test() -> None:
    def run() -> None:
        with aws_stand_ins() as broken:
            token = broken.sso.sign_in().access_token
            headers = {"x-amz-sso_bearer_token": token}
            with pytest.raises(RemoteDisconnected):
                ask(broken, "/federation/credentials", headers=headers)

    with pytest.raises(AssertionError, match="TypeError"):
        run()


async def refused_by_aws(fetching: Any) -> str:
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        await fetching
    return str(caught.value)
