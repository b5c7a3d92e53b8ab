"""Sources of credentials that a run of the benchmark has in its hand.

The stand-ins are those of the tests (`tests.kit.aws_stand_ins`): this runs in the
checkout, and the tests' dependencies are installed. Of the credentials that they give
only the expiry is theirs; the keys are those that the emulator takes.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dsqlproxy.commands.clocks import system_clocks
from dsqlproxy.emulator.sigv4 import AccessKey
from tests.kit.aws_stand_ins import (
    Home,
    Operation,
    StandIns,
    TemporaryCredentials,
    aws_stand_ins,
    role_arn,
)

LONG_SECONDS = 3600.0


@dataclass(slots=True)
class Source:
    """One source of credentials, in the hand of a run."""

    aws: StandIns
    home: Home
    key: AccessKey
    operations: tuple[Operation, ...]
    """All that it is asked; the last one gives the credentials."""
    environment: Mapping[str, str]
    hangs: bool = True
    """Whether it hangs in its trouble; otherwise it refuses at once."""

    def live(self, seconds: float) -> None:
        """Give credentials that live for so long."""
        expires_at = system_clocks().wall() + seconds
        self.operations[-1].answer(TemporaryCredentials(self.key, expires_at))

    def fail(self) -> None:
        """Begin the trouble."""
        for each in self.operations:
            each.hang() if self.hangs else each.deny()

    def recover(self) -> None:
        """End it."""
        self.live(LONG_SECONDS)
        for each in self.operations:
            each.release()
        self.nudge()

    def nudge(self) -> None:
        """Change a file of AWS's, so that the proxy looks for credentials anew."""
        self.home.profile(f"nobody-{time.monotonic_ns()}")


def _container(aws: StandIns, home: Home, key: AccessKey) -> Source:
    environment = {**aws.environment(home), **aws.container.ecs()}
    return Source(aws, home, key, (aws.container.credentials,), environment)


def _metadata(aws: StandIns, home: Home, key: AccessKey) -> Source:
    environment = aws.environment(home, imds=True)
    operations = (aws.imds.token, aws.imds.role, aws.imds.credentials)
    return Source(aws, home, key, operations, environment)


def _sts(aws: StandIns, home: Home, key: AccessKey) -> Source:
    home.keys(key, "base")
    home.profile("bench", role_arn=role_arn("bench"), source_profile="base")
    environment = aws.environment(home, AWS_PROFILE="bench")
    return Source(aws, home, key, (aws.sts.assume_role,), environment)


def _process(aws: StandIns, home: Home, key: AccessKey) -> Source:
    home.profile("bench", credential_process=aws.process.write(home.directory))
    environment = aws.environment(home, AWS_PROFILE="bench")
    return Source(aws, home, key, (aws.process.run,), environment)


def _sso(aws: StandIns, home: Home, key: AccessKey) -> Source:
    home.sso_profile("bench")
    home.sign_in(aws.sso.sign_in())
    environment = aws.environment(home, AWS_PROFILE="bench")
    operations = (aws.sso.get_role_credentials,)
    return Source(aws, home, key, operations, environment, hangs=False)


SOURCES: Mapping[str, Callable[[StandIns, Home, AccessKey], Source]] = {
    "container endpoint hangs": _container,
    "instance metadata hangs": _metadata,
    "STS hangs": _sts,
    "credential_process hangs": _process,
    "AWS SSO refuses at once": _sso,
}


@contextlib.contextmanager
def running_source(
    name: str, *, keys: Mapping[str, str], directory: Path
) -> Iterator[Source]:
    """Run a source; ``keys`` are the variables with the keys that the cluster takes."""
    key = AccessKey(
        keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"], role_arn("bench")
    )
    with aws_stand_ins() as aws:
        aws.mint.add(key)
        source = SOURCES[name](aws, Home(directory), key)
        source.live(LONG_SECONDS)
        yield source
