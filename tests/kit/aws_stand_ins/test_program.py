import asyncio
import json
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest

from tests.kit.aws_stand_ins import Home, StandIns, aws_stand_ins
from tests.kit.aws_stand_ins.fetching import Fetch


@pytest.fixture(autouse=True)
def profile(aws: StandIns, home: Home) -> None:
    home.profile("vault", credential_process=aws.process.write(home.directory))


def test_an_exit_code(aws: StandIns, fetch: Fetch) -> None:
    aws.process.exit(3, "vault: sealed")
    with pytest.raises(
        botocore.exceptions.CredentialRetrievalError, match="vault: sealed"
    ):
        fetch(AWS_PROFILE="vault")


def test_an_output_that_is_no_json(aws: StandIns, fetch: Fetch) -> None:
    aws.process.print("welcome to vault")
    with pytest.raises(json.JSONDecodeError):
        fetch(AWS_PROFILE="vault")


async def test_a_run_that_hangs_ends_with_the_stand_ins(
    home: Home, fetch: Fetch, tmp_path: Path
) -> None:
    with aws_stand_ins() as short_lived:
        short_lived.process.run.hang()
        home.profile("vault", credential_process=short_lived.process.write(tmp_path))
        fetching = asyncio.to_thread(fetch, AWS_PROFILE="vault")
        async with asyncio.TaskGroup() as group:
            task = group.create_task(refused(fetching))
            await short_lived.process.run.wait_for_calls(1)
            short_lived.close()
            await task


async def refused(fetching: Any) -> None:
    with pytest.raises(botocore.exceptions.BotoCoreError):
        await fetching
