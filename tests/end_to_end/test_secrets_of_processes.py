"""No output, log, metric, process list or file of ours holds a secret, at any level.

The programs run as processes, as talkative as Python and we can be made: log level
debug, Python's development mode, and asyncio telling of every single callback. The
credentials come by AWS SSO from files, so that no environment has them to begin
with. What the cluster was sent tells which tokens there were.
"""

import asyncio
import contextlib
import os
import signal
import sys
from typing import Any

import psycopg
import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.pgproto.startup import CancelRequest
from tests.end_to_end.talkative import (
    World,
    authority,
    aws,
    connect,
    emulator,
    tokens,
    world,
)
from tests.end_to_end.wire import RawClient, until, until_active
from tests.kit.processes import Program
from tests.upstream.wire import Authority

__all__ = ("authority", "aws", "emulator", "tokens", "world")  # borrowed fixtures

pytestmark = pytest.mark.timeout(120)  # a dozen failures, each after its time

SAYS_WHAT_IT_SENDS = """
import ssl, sys
write = ssl.SSLObject.write
def write_and_tell(self, data):
    print(bytes(data), file=sys.stderr, flush=True)
    return write(self, data)
ssl.SSLObject.write = write_and_tell
"""
"""Put into a program to see that its leak is found."""

# -- a proxy in all its states -------------------------------------------------------


async def live(world: World, proxy: Program, postgres: EmbeddedPostgres) -> None:
    """Log in, query, cancel, be swapped, be pinned until the limit, recover."""
    async with await connect(proxy) as pinned, await connect(proxy) as connection:
        await pinned.execute("begin")
        await connection.execute("select 1")
        async with asyncio.TaskGroup() as group:
            sleeping = group.create_task(failure_of(connection, "select pg_sleep(61)"))
            await until_active(postgres)
            await connection.cancel_safe()
            assert "canceling statement" in await sleeping
        await until(lambda: "upstream swapped" in proxy.errors)
        await world.look_at(proxy)
        world.emulator.expire_sessions()
        await until(lambda: "session recovered" in proxy.errors)
        await connection.execute("select 1")
        await until(lambda: "session closed" in proxy.errors)  # at the limit
        world.said.append(await failure_of(pinned, "select 1"))


async def failure_of(
    connection: "psycopg.AsyncConnection[tuple[Any, ...]]", statement: str
) -> str:
    """Give what a statement fails with."""
    try:
        await connection.execute(statement)
    except psycopg.Error as error:
        return str(error)
    return ""


async def be_bad(proxy: Program) -> None:
    """Send what no client sends."""
    guess = CancelRequest(1, b"guess").encode()
    for data in (b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n", guess, b""):
        async with await RawClient.dial(proxy.host, proxy.port) as client:
            await client.send(data)
            client.end_writing()
            await client.receive_rest()


async def fail(world: World, proxy: Program) -> None:
    """Let logins fail in every way in which a token takes part."""
    for fault in (
        *("access-denied", "skew:600", "skew:-900", "fatal:57P01", "slow-login:30s"),
        *("stall-after:20", "reset-after:20", "waking-up:60s", "rate-exceeded:99"),
        *("too-many-connections:99", "expired-credentials"),
    ):
        world.emulator.add_fault(fault)
        with pytest.raises(psycopg.OperationalError) as caught:
            await connect(proxy)
        world.said.append(str(caught.value))
        world.emulator.clear_faults()
        await wait_for_login(proxy)


async def wait_for_login(proxy: Program) -> None:
    """Wait until logins go through: after some failures the proxy pauses."""
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                await (await connect(proxy)).close()
                return


@pytest.mark.parametrize(("loop", "form"), [("asyncio", "json"), ("uvloop", "text")])
async def test_a_proxy_keeps_them_through_its_life_and_all_its_failures(
    world: World, postgres: EmbeddedPostgres, loop: str, form: str
) -> None:
    config = world.config(session_limit="3s", log={"format": form})
    flags = ("--config", str(config), "--event-loop", loop)
    async with world.program("proxy", *flags, is_ready=True) as proxy:
        await wait_for_login(proxy)  # nobody waits for long, and the first fetch may
        await live(world, proxy, postgres)
        await be_bad(proxy)
        await fail(world, proxy)
        world.aws.sso.revoke()
        world.emulator.add_fault("expired-credentials")
        for _ in range(2):  # refused, and then nothing left to sign with
            with pytest.raises(psycopg.OperationalError) as caught:
                await connect(proxy)
            world.said.append(str(caught.value))
        await world.run("status", "status", "--admin", proxy.admin)
        await world.run("json", "status", "--json", "--admin", proxy.admin)
        await world.look_at(proxy)
        proxy.send(signal.SIGTERM)
        assert await proxy.wait() == 0
    assert "log lines dropped" not in proxy.errors
    assert (loop == "uvloop") or "Executing <" in proxy.errors
    assert len(world.tokens) > 20
    assert world.leaks() == set()


async def test_a_proxy_that_says_what_it_sends_is_found_out(world: World) -> None:
    flags = ("--config", str(world.config()))
    async with world.program(
        "proxy", *flags, custom=SAYS_WHAT_IT_SENDS, is_ready=True
    ) as proxy:
        await wait_for_login(proxy)
    assert world.leaks() >= {"signature of token 0", "session token of token 0"}


# -- ways that do not lead to a cluster ----------------------------------------------


async def test_a_cluster_that_is_not_the_right_one_is_told_without_them(
    world: World, authority: Authority
) -> None:
    for number, settings in enumerate(
        (
            {"ca_file": str(authority.ca_file)},
            {"server_name": "other.example"},
            {"connect_address": "127.0.0.1:1"},
            {"tls_negotiation": "postgres", "connect_timeout": "1ms"},
        )
    ):
        flags = ("--config", str(world.config(**settings)))
        async with world.program(f"proxy{number}", *flags, is_ready=True) as proxy:
            with pytest.raises(psycopg.OperationalError) as caught:
                await connect(proxy)
            world.said.append(str(caught.value))
            await world.look_at(proxy)
    await world.run("check", "check", "--config", str(world.config()))
    assert world.leaks() == set()


# -- the other commands --------------------------------------------------------------

SHOW = """
import os, pathlib, psycopg
print(*psycopg.connect("").execute("select 6 * 7").fetchone())
for pid in (os.getpid(), os.getppid()):
    for name in ("cmdline", "environ"):
        print(pathlib.Path(f"/proc/{pid}/{name}").read_bytes())
"""


async def test_the_other_commands_keep_them(world: World) -> None:
    config = ("--config", str(world.config()))
    assert (await world.run("check", "check", *config)).process.returncode == 0
    await world.run("check-json", "check", *config, "--json")
    world.emulator.add_fault("access-denied")
    await world.run("check-denied", "check", *config)
    world.emulator.clear_faults()
    flags = (*config, "--role", "admin", "--log-level", "debug")
    done = await world.run("exec", "exec", *flags, "--", sys.executable, "-c", SHOW)
    assert (done.process.returncode, done.output.startswith("42\n")) == (0, True)
    assert world.leaks() == set()


async def test_a_token_that_is_printed_is_found_where_it_is_printed(
    world: World,
) -> None:
    done = await world.run("token", "token", "--config", str(world.config()))
    assert done.process.returncode == 0
    world.tokens.append(done.output.strip())
    assert world.leaks() >= {"signature of token 0", "session token of token 0"}
    (done.directory / "stdout").write_text("")
    assert world.leaks() == set()


SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
BAD_FILES = {
    "a key alone": f"[default]\naws_secret_access_key = {SECRET}\n",
    "no equals sign": f"[default]\naws_secret_access_key {SECRET}\n",
    "no section": f"aws_secret_access_key = {SECRET}\n",
    "a section that is none": f"[default\naws_secret_access_key = {SECRET}\n",
    "the key as the name": f"[default]\nregion = us-east-1\nsource_profile = {SECRET}\n"
    "role_arn = arn:aws:iam::111122223333:role/x\n",
    "a program that prints it": "[default]\ncredential_process ="
    f" {sys.executable} -c \"import sys; sys.exit('{SECRET}')\"\n",
    "a program that says it badly": "[default]\ncredential_process ="
    f" {sys.executable} -c \"print('{{{SECRET}')\"\n",
    "a program that is told it": "[default]\ncredential_process ="
    f" /no/program {SECRET}\n",
}


@pytest.mark.parametrize("text", BAD_FILES.values(), ids=BAD_FILES)
async def test_a_file_that_is_wrong_is_told_without_what_is_in_it(
    world: World, text: str
) -> None:
    world.secrets.add("the key", SECRET)
    world.home.config_file.write_text(text)
    world.home.credentials_file.write_text("")
    config = ("--config", str(world.config()))
    for name in ("token", "check"):
        done = await world.run(name, name, *config)
        assert done.process.returncode == 1
        assert "Traceback" not in done.errors
        assert name == "check" or done.output == ""
    async with world.program("proxy", *config, is_ready=True) as proxy:
        with pytest.raises(psycopg.OperationalError) as caught:
            await connect(proxy)
        world.said.append(str(caught.value))
        await world.look_at(proxy)
    assert world.seen() == set()


def test_the_environment_of_the_tests_has_none_of_their_secrets() -> None:
    # Or the ones that are sought in /proc/…/environ would be found there.
    assert SECRET not in os.environ.values()
