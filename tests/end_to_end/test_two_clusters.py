"""Two clusters, one identity: what one thinks of its keys is nothing to the other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.server import Emulator
from dsqlproxy.emulator.sigv4 import AccessKey
from tests.end_to_end.wire import RawClient, logged, startup, until
from tests.kit.stack import (
    RunningProxy,
    config_for,
    running_emulator,
    running_proxy,
    storm,
)

FAILED = "WARNING credentials failed"


@dataclass(frozen=True)
class Clusters:
    """A proxy with a listener for each of two clusters."""

    good: RunningProxy
    bad: RunningProxy
    good_emulator: Emulator
    bad_emulator: Emulator

    def trust_everywhere(self) -> None:
        """Make the keys known to the cluster that refuses them."""
        keys = self.good_emulator.credentials
        self.bad_emulator.trust(
            AccessKey(
                keys.access_key_id,
                keys.secret_access_key,
                "arn:aws:iam::111122223333:role/x",
                session_token=keys.session_token,
            )
        )


@asynccontextmanager
async def two_clusters(postgres: EmbeddedPostgres) -> AsyncIterator[Clusters]:
    """Run a proxy with the keys of one cluster, which the other does not know."""
    async with running_emulator(postgres) as good, running_emulator(postgres) as bad:
        config = config_for(good, name="good")
        config = config.model_copy(
            update={
                "listeners": (*config.listeners, *config_for(bad, name="bad").listeners)
            }
        )
        async with running_proxy(good, config=config, new_window=storm) as proxy:
            each = [
                replace(proxy, started=replace(proxy.started, listeners=(listener,)))
                for listener in proxy.started.listeners
            ]
            yield Clusters(each[0], each[1], good, bad)


# A client that tried again and again at the one left the other, which was well, usable
# for seconds of each minute; and its sessions died, as their swaps waited for keys.
@pytest.mark.timeout(60)
async def test_a_cluster_that_refuses_the_keys_costs_the_other_nothing(
    postgres: EmbeddedPostgres,
) -> None:
    async with two_clusters(postgres) as clusters, asyncio.TaskGroup() as group:
        good = clusters.good

        async def be_held() -> None:
            async with RawClient.session(clusters.bad) as client:
                assert await client.ask("select 1") == ["1"]

        async with RawClient.session(good) as living:
            held = group.create_task(be_held())
            await logged(good, f"{FAILED}.*for {clusters.bad_emulator.cluster}:")
            for _ in range(20):
                async with RawClient.connect(good) as client:
                    await client.send(startup())
                    assert (await client.receive_greeting()).notices == []
                    assert await client.ask("select 1") == ["1"]
            swaps = good.log.getvalue().count("upstream swapped")
            await until(
                lambda: good.log.getvalue().count("upstream swapped") > swaps + 1
            )
            assert await living.ask("select 1") == ["1"]
            assert not held.done()
            clusters.trust_everywhere()
            await held
        assert good.log.getvalue().count(FAILED) == 1
        assert "listener=good" not in "".join(
            line
            for line in good.log.getvalue().splitlines()
            if "session held" in line or "login failed" in line
        )
