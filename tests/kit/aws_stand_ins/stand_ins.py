"""All stand-ins together: one server on loopback, and the environment that finds it."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random, SystemRandom
from typing import Final

import botocore.credentials
import botocore.tokens
import pytest

from dsqlproxy.emulator.server import wall_clock
from tests.kit.aws_stand_ins.home import Home, replace
from tests.kit.aws_stand_ins.metadata import Container, Imds
from tests.kit.aws_stand_ins.mint import Mint
from tests.kit.aws_stand_ins.program import CredentialProcess
from tests.kit.aws_stand_ins.server import Server, serving
from tests.kit.aws_stand_ins.service import Service, reply_to
from tests.kit.aws_stand_ins.sso import Sso
from tests.kit.aws_stand_ins.sts import Sts

_NOT_INHERITED: Final = ("AWS_", "BOTO_")
_PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


class StandIns:
    """AWS as far as credentials come from it."""

    def __init__(self, *, clock: Callable[[], float], random: Random) -> None:
        self._clock = clock
        self.skew_seconds = 0.0
        """How far AWS's clock is before ours: the ``Date`` header, and what STS
        holds against a signature. Expiry times are by our clock, so that they mean
        what a test says."""
        self.mint = Mint(clock=clock, random=random)
        self.sts = Sts(self.mint, self.clock)
        self.sso = Sso(self.mint, clock)
        self.imds = Imds(self.mint)
        self.container = Container(self.mint)
        self.process = CredentialProcess(self.mint)
        self._services: tuple[Service, ...] = (
            self.sts,
            self.sso,
            self.imds,
            self.container,
            self.process,
        )
        self.server = Server(
            lambda request: reply_to(request, self._services), self.clock
        )
        self.url = self.server.url
        self.container.url = self.url
        self.process.port = self.server.server_address[1]

    def clock(self) -> float:
        """Give AWS's time."""
        return self._clock() + self.skew_seconds

    def close(self) -> None:
        """Let every call that is held go, without an answer."""
        for service in self._services:
            for operation in service.operations:
                operation.close()

    # -- environments --------------------------------------------------------------

    def environment(
        self, home: Home, *, imds: bool = False, **variables: str
    ) -> dict[str, str]:
        """Give what makes AWS's libraries find the stand-ins and nothing else.

        Further ``variables`` come with it: ``AWS_PROFILE``, those of `Container`.
        """
        found = {
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.url,
            "AWS_EC2_METADATA_DISABLED": "false",
        }
        return {
            **home.environment(),
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_STS": self.url,
            "AWS_ENDPOINT_URL_SSO": self.url,
            "AWS_ENDPOINT_URL_SSO_OIDC": self.url,
            **(found if imds else {"AWS_EC2_METADATA_DISABLED": "true"}),
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            **variables,
        }

    def web_identity(
        self, home: Home, role_arn: str, *, session_name: str = ""
    ) -> dict[str, str]:
        """Give the variables of a pod with a role for its service account.

        The token is in `Home.web_identity_token_file`; it is written here.
        """
        replace(home.web_identity_token_file, self.mint.text(500))
        variables = {
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(home.web_identity_token_file),
            "AWS_ROLE_ARN": role_arn,
        }
        if session_name:
            variables["AWS_ROLE_SESSION_NAME"] = session_name
        return variables


@contextmanager
def aws_stand_ins(
    *, clock: Callable[[], float] = wall_clock, random: Random | None = None
) -> Iterator[StandIns]:
    """Run the stand-ins for the time of a block."""
    stand_ins = StandIns(clock=clock, random=random or SystemRandom())
    with serving(stand_ins.server, on_end=stand_ins.close):
        yield stand_ins


def use_in_this_process(
    monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str]
) -> None:
    """Make an environment this process's own, as far as AWS's libraries look at it.

    botocore asks for the home directory once, when it is imported, and keeps the
    place of the SSO cache; a child process needs none of this.
    """
    for name in list(os.environ):
        is_proxy = name.upper() in _PROXIES
        if is_proxy or name.startswith(_NOT_INHERITED):
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    cache = str(Path(environment["HOME"]) / ".aws" / "sso" / "cache")
    for provider in (
        botocore.credentials.SSOProvider,
        botocore.tokens.SSOTokenProvider,
    ):
        monkeypatch.setattr(provider, "_SSO_TOKEN_CACHE_DIR", cache)
