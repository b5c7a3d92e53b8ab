import socket
import ssl
from typing import Literal

import pytest

from dsqlproxy.clocks import Clocks
from dsqlproxy.upstream.connector import Connector, Target
from tests.kit.scripted import ScriptedServer
from tests.upstream.stage import CLOCKS, LOGGER, Make, Signer, at
from tests.upstream.wire import CLUSTER, REGION, Authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def make(authority: Authority) -> Make:
    def make_connector(
        server: ScriptedServer | socket.socket,
        *,
        signer: Signer | None = None,
        negotiation: Literal["auto", "direct", "postgres"] = "auto",
        server_name: str | None = None,
        timeout_seconds: float = 10.0,
        clocks: Clocks = CLOCKS,
    ) -> Connector:
        target = Target(
            host=CLUSTER,
            region=REGION,
            server_name=server_name,
            ca_file=authority.ca_file,
            negotiation=negotiation,
            timeout_seconds=timeout_seconds,
        )
        return Connector(
            target,
            signer or Signer(),
            clocks=clocks,
            logger=LOGGER,
            resolver=at(server),
        )

    return make_connector


@pytest.fixture
def context(authority: Authority) -> ssl.SSLContext:
    return authority.server_context()
