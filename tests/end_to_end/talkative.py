"""Programs of ours at their most talkative, and all that the world may see of them.

Fixtures to borrow: ``tokens``, ``emulator``, ``aws`` and ``world``.
"""

import asyncio
import contextlib
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
import pytest_asyncio
import yaml

from dsqlproxy.emulator.postgres import EmbeddedPostgres
from dsqlproxy.emulator.server import Emulator
from dsqlproxy.emulator.sigv4 import AccessKey, TokenVerifier, Verdict
from tests.kit.aws_stand_ins import Home, StandIns, aws_stand_ins
from tests.kit.leaks import Forbidden, files_below
from tests.kit.processes import Program, program
from tests.kit.stack import running_emulator
from tests.upstream.wire import Authority

TALKATIVE = """
import asyncio
init = asyncio.BaseEventLoop.__init__
def tell_of_every_callback(self):
    init(self)
    self.slow_callback_duration = 0.0
asyncio.BaseEventLoop.__init__ = tell_of_every_callback
"""
PATHS = ("metrics", "sessions", "readiness", "startup", "liveness", "", "nowhere")


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every token that reaches the cluster."""
    seen: list[str] = []
    verify = TokenVerifier.verify

    def spy(self: TokenVerifier, token: str, *, user: str, now: float) -> Verdict:
        seen.append(token)
        return verify(self, token, user=user, now=now)

    monkeypatch.setattr(TokenVerifier, "verify", spy)
    return seen


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


@dataclass
class World:
    """A cluster, a person with credentials, and what programs say to the world."""

    emulator: Emulator
    aws: StandIns
    home: Home
    tokens: list[str]
    directory: Path
    said: list[str] = field(default_factory=list)
    secrets: Forbidden = field(default_factory=Forbidden)

    def config(self, **settings: Any) -> Path:
        """Write a configuration; settings are those of the listener, and ``log``."""
        log = {"level": "debug", **settings.pop("log", {})}
        listener = {
            "name": "main",
            "listen": "127.0.0.1:0",
            "cluster": self.emulator.cluster,
            "connect_address": f"{self.emulator.host}:{self.emulator.port}",
            "ca_file": str(self.emulator.ca_file),
            "connect_timeout": "1s",
            "hold_timeout": "300ms",
            **settings,
        }
        tree = {"listeners": [listener], "admin": {"listen": "127.0.0.1:0"}, "log": log}
        file = self.home.directory / "proxy.yaml"
        file.write_text(yaml.safe_dump(tree))
        return file

    def program(
        self, name: str, *words: str, custom: str = TALKATIVE, is_ready: bool = False
    ) -> "contextlib.AbstractAsyncContextManager[Program]":
        """Run a command; ``custom`` is Python that runs before it."""
        directory = self.directory / name
        directory.mkdir()
        site = self.home.directory / f"site-{name}"
        site.mkdir()
        (site / "sitecustomize.py").write_text(custom)
        environ = self.aws.environment(
            self.home,
            PYTHONPATH=str(site),
            PYTHONDEVMODE="1",
            PYTHONASYNCIODEBUG="1",
            PYTHONFAULTHANDLER="1",
        )
        return program(*words, directory=directory, environ=environ, is_ready=is_ready)

    async def run(self, name: str, *words: str) -> Program:
        """Run a command to its end."""
        async with self.program(name, *words) as running:
            await running.wait()
        return running

    async def look_at(self, proxy: Program) -> None:
        """See what a running proxy shows to everybody on this machine."""
        self.said += shown_of(proxy.pid)
        for path_of_url in PATHS:
            url = f"http://{proxy.admin}/{path_of_url}"
            self.said.append(await asyncio.to_thread(fetch, url))

    def leaks(self) -> set[str]:
        """Name the secrets that were seen anywhere."""
        assert self.tokens, "nothing was signed: the test shows nothing"
        for number, token in enumerate(self.tokens):
            self.secrets.add_token(f"token {number}", token)
        return self.seen()

    def seen(self) -> set[str]:
        """Name what was seen of the secrets that are known already."""
        said = map(str.encode, self.said)
        files = files_below(self.directory).values()
        return self.secrets.found_in(b"\n".join([*said, *files]))


def shown_of(pid: int) -> list[str]:
    """Give what the list of processes shows; nothing where there is no /proc."""
    paths = [Path(f"/proc/{pid}/{name}") for name in ("cmdline", "environ")]
    return [path.read_text(errors="replace") for path in paths if path.exists()]


def fetch(url: str) -> str:
    try:
        with urllib.request.urlopen(url) as answer:  # noqa: S310 - of our own making
            body: bytes = answer.read()
    except urllib.error.HTTPError as error:
        body = error.read()
        error.close()
    return body.decode()


@pytest_asyncio.fixture
async def emulator(postgres: EmbeddedPostgres) -> AsyncIterator[Emulator]:
    async with running_emulator(postgres) as running:
        yield running


@pytest.fixture
def aws() -> Iterator[StandIns]:
    with aws_stand_ins() as stand_ins:
        yield stand_ins


@pytest_asyncio.fixture
async def world(
    emulator: Emulator, aws: StandIns, tokens: list[str], tmp_path: Path
) -> World:
    """Let somebody be signed in; every key that AWS gives is known to the test."""
    home, seen = tmp_path / "home", tmp_path / "seen"
    home.mkdir()
    seen.mkdir()
    world = World(emulator, aws, Home(home), tokens, seen)

    def trust(key: AccessKey) -> None:
        world.secrets.add(f"secret key {key.access_key_id}", key.secret_access_key)
        world.secrets.add(f"session token {key.access_key_id}", key.session_token or "")
        emulator.trust(key)

    aws.mint.on_key = trust
    signed_in = aws.sso.sign_in()
    for name in ("access_token", "refresh_token", "client_secret"):
        world.secrets.add(f"SSO {name}", getattr(signed_in, name))
    world.home.sso_profile()
    world.home.sign_in(signed_in)
    return world


async def connect(proxy: Program) -> "psycopg.AsyncConnection[tuple[Any, ...]]":
    return await psycopg.AsyncConnection.connect(proxy.dsn, autocommit=True)
