"""``dsqlproxy healthcheck`` against a real admin listener."""

import argparse
import asyncio
import subprocess
import sys
from types import ModuleType

import pytest

from dsqlproxy.commands import healthcheck, wait
from dsqlproxy.errors import DsqlProxyError
from dsqlproxy.ops.health import REFUSAL_SECONDS
from tests.commands.kit import admin_of, run_command
from tests.ops.test_admin import running


async def test_ready_is_exit_code_0_and_silence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with running() as proxy:
        proxy.health.note_listening()
        code = await run_command(healthcheck, *admin_of(proxy))
    assert code == 0
    assert capsys.readouterr() == ("", "")


async def test_not_ready_is_an_error_with_the_reason() -> None:
    async with running() as proxy:
        proxy.health.note_listening()
        proxy.health.note_draining("SIGTERM")
        with pytest.raises(DsqlProxyError, match="not ready: draining: SIGTERM"):
            await run_command(healthcheck, *admin_of(proxy))


async def test_a_login_that_was_refused_is_told_with_the_reason() -> None:
    async with running() as proxy:
        proxy.health.note_listening()
        proxy.health.note_login_failure(
            "main", sqlstate="28000", message="access\x1b denied", is_refusal=True
        )
        with pytest.raises(DsqlProxyError) as refused:
            await run_command(healthcheck, *admin_of(proxy))
        assert refused.value.message == (
            "not ready: no login has worked yet on main; last login on main: failed"
            " 0s ago, 28000 access\\x1b denied"
        )
        proxy.health.note_draining("SIGTERM")
        with pytest.raises(DsqlProxyError, match=r"not ready: draining: SIGTERM\Z"):
            await run_command(healthcheck, *admin_of(proxy))


async def test_a_health_check_imports_nothing_heavy() -> None:
    # It runs every few seconds in every container.
    code = (
        "import sys, argparse, dsqlproxy.commands.healthcheck as h;"
        "p = argparse.ArgumentParser(); h.add_arguments(p);"
        "print(*{'asyncio', 'pydantic', 'boto3', 'yaml'} & set(sys.modules))"
    )
    found = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        text=True,
    )
    assert found.stdout == "\n"


@pytest.mark.parametrize("command", [healthcheck, wait], ids=["healthcheck", "wait"])
def test_the_manual_says_when_a_refused_login_counts(command: ModuleType) -> None:
    words = " ".join(command.HELP.split())
    assert f"makes the proxy not ready for {REFUSAL_SECONDS:g} s" in words


def test_the_manual_fits_the_terminal() -> None:
    assert max(map(len, healthcheck.HELP.splitlines())) <= 78
    healthcheck.add_arguments(argparse.ArgumentParser())
