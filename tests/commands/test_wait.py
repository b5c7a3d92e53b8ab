"""``dsqlproxy wait`` returns as soon as the proxy is ready, or says why not."""

import json
from pathlib import Path

import pytest

from dsqlproxy.commands import wait
from dsqlproxy.commands.admin_client import Answer, NoAnswer
from dsqlproxy.commands.wait import wait_until_ready
from dsqlproxy.errors import ConfigError, DsqlProxyError
from tests.commands.kit import admin_of, run_command
from tests.ops.test_admin import running

READY = Answer(ok=True, body={})
DRAINING = Answer(ok=False, body={"reason": "draining"})


class Script:
    """A proxy that gives these answers in turn, and the clock of who asks it."""

    def __init__(self, *answers: Answer | str) -> None:
        self.answers = list(answers)
        self.now = 100.0
        self.pauses: list[float] = []
        self.limits: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def ask(self, seconds: float) -> Answer:
        self.limits.append(seconds)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, str):
            raise NoAnswer(answer)
        return answer

    def wait(self, timeout: float = 30.0) -> None:
        wait_until_ready(self.ask, timeout=timeout, clock=self.clock, sleep=self.sleep)


def test_ready_at_once_needs_no_pause() -> None:
    script = Script(READY)
    script.wait()
    assert script.pauses == []


def test_it_asks_again_with_growing_pauses_until_the_answer_is_yes() -> None:
    script = Script("refused", "refused", DRAINING, DRAINING, READY)
    script.wait()
    assert script.pauses == [0.05, 0.1, 0.2, 0.4]


def test_pauses_stay_below_a_second() -> None:
    script = Script(*["refused"] * 20, READY)
    script.wait()
    assert max(script.pauses) == 1.0


@pytest.mark.parametrize("answer", ["refused", DRAINING])
def test_at_the_time_limit_the_last_reason_is_told(answer: Answer | str) -> None:
    script = Script(answer)
    reason = answer if isinstance(answer, str) else answer.reason
    with pytest.raises(DsqlProxyError, match=f"not ready after 3 s: {reason}"):
        script.wait(3.0)
    assert script.now == pytest.approx(103.0)
    assert max(script.limits) <= 3.0


async def test_a_proxy_that_is_ready_ends_the_wait() -> None:
    async with running() as proxy:
        proxy.health.note_listening()
        assert await run_command(wait, *admin_of(proxy)) == 0


async def test_a_ready_file_that_never_comes_runs_into_the_limit(
    tmp_path: Path,
) -> None:
    with pytest.raises(DsqlProxyError, match="does not exist"):
        await run_command(
            wait, "--ready-file", str(tmp_path / "none"), "--timeout", "10ms"
        )


async def test_a_ready_file_leads_to_the_proxy(tmp_path: Path) -> None:
    async with running() as proxy:
        proxy.health.note_listening()
        path = tmp_path / "ready.json"
        admin = {"host": proxy.address.host, "port": proxy.address.port}
        path.write_text(json.dumps({"admin": admin}), encoding="utf-8")
        assert await run_command(wait, "--ready-file", str(path)) == 0


@pytest.mark.parametrize("limit", ["soon", "0s"])
async def test_a_time_limit_that_is_none_is_bad_usage(limit: str) -> None:
    with pytest.raises(ConfigError, match="--timeout"):
        await run_command(wait, "--timeout", limit)


def test_the_manual_fits_the_terminal() -> None:
    assert max(map(len, wait.HELP.splitlines())) <= 78
