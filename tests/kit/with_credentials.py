"""A proxy that finds its credentials by AWS's chain, where stand-ins are all of AWS.

    with a_machine(emulator, tmp_path, monkeypatch) as machine:
        machine.home.sso_profile("dev")
        machine.home.sign_in(machine.aws.sso.sign_in())
        async with machine.running_proxy(profile="dev") as proxy:
            …
            assert len(machine.given_to(sso_role_arn("Developer"))) == 1

A `Machine` is the files and the environment of this process for one test. Its cluster
takes the tokens of whatever keys the stand-ins give, until a test says otherwise. Time
is real unless ``clocks`` says otherwise: `MovedClocks` jump, `FastClocks` run.
"""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dsqlproxy.aws.tokens import TokenSource
from dsqlproxy.clocks import Clocks
from dsqlproxy.commands.clocks import system_clocks
from dsqlproxy.emulator.server import Emulator
from dsqlproxy.session.lifetime import SwapWindow
from tests.kit.aws_stand_ins import (
    Home,
    StandIns,
    TemporaryCredentials,
    aws_stand_ins,
    use_in_this_process,
)
from tests.kit.stack import RunningProxy, config_for, serving

# -- clocks ----------------------------------------------------------------------------


class MovedClocks:
    """The real clocks, but somebody sets the wall clock, or the machine sleeps."""

    def __init__(self) -> None:
        self._moved = 0.0

    def set_forward(self, seconds: float) -> None:
        """Set the wall clock forward; the others do not notice."""
        self._moved += seconds

    def wall(self) -> float:
        """Give the time of day."""
        return system_clocks().wall() + self._moved

    @property
    def clocks(self) -> Clocks:
        """The clocks, for whoever takes `Clocks`."""
        return system_clocks()._replace(wall=self.wall)


class FastClocks:
    """Clocks by which all time passes ``factor`` times as fast, from now on."""

    def __init__(self, factor: float) -> None:
        self._factor = factor
        self._began_at = time.monotonic()
        self._wall_at = system_clocks().wall()

    def wall(self) -> float:
        """Give the time of day."""
        return self._wall_at + self._passed()

    @property
    def clocks(self) -> Clocks:
        """The clocks, for whoever takes `Clocks`."""
        return Clocks(monotonic=self._passed, boot=self._passed, wall=self.wall)

    def _passed(self) -> float:
        return (time.monotonic() - self._began_at) * self._factor


# -- the machine -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Machine:
    """One home directory, one AWS, one cluster."""

    aws: StandIns
    home: Home
    emulator: Emulator
    monkeypatch: pytest.MonkeyPatch

    def enter(self, *, imds: bool = False, **variables: str) -> None:
        """Make its environment this process's, with some variables more."""
        environment = self.aws.environment(self.home, imds=imds, **variables)
        use_in_this_process(self.monkeypatch, environment)

    def given_to(self, principal_arn: str) -> list[TemporaryCredentials]:
        """Give all credentials that AWS has given to a principal so far."""
        made = self.aws.mint.temporary
        return [each for each in made if each.key.principal_arn == principal_arn]

    def distrust(self, credentials: TemporaryCredentials) -> None:
        """Have the cluster refuse the tokens of credentials from now on."""
        self.emulator.distrust(credentials.access_key_id)

    @asynccontextmanager
    async def running_proxy(
        self,
        *,
        clocks: Clocks | None = None,
        new_window: Callable[[], SwapWindow] | None = None,
        look_seconds: float | None = None,
        **settings: Any,
    ) -> AsyncIterator[RunningProxy]:
        """Run a proxy before the cluster; settings are those of the listener.

        ``new_window`` gives the windows of its upstreams, ``look_seconds`` says how
        often it looks at files and clocks, where it is not to be the usual.
        """

        def prepare(source: TokenSource) -> None:
            if look_seconds is not None:
                source._look_seconds = look_seconds

        config = config_for(self.emulator, **settings)
        async with serving(
            config, clocks=clocks, new_window=new_window, prepare=prepare
        ) as running:
            yield running


@contextmanager
def a_machine(
    emulator: Emulator,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    clock: Callable[[], float] | None = None,
) -> Iterator[Machine]:
    """Give a machine for the time of a block; ``clock`` is by which AWS counts."""
    emulator.distrust(emulator.credentials.access_key_id)
    with aws_stand_ins(clock=clock or system_clocks().wall) as aws:
        aws.mint.on_key = emulator.trust
        machine = Machine(aws, Home(directory), emulator, monkeypatch)
        machine.enter()
        yield machine
