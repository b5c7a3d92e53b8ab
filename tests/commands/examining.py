"""An examination of scripted clusters, with a faked AWS."""

import contextlib
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from dsqlproxy.aws.credentials import Credentials
from dsqlproxy.aws.date import NoDate
from dsqlproxy.aws.secret import Secret
from dsqlproxy.aws.tokens import SigningRequest, Token
from dsqlproxy.aws.workers import Workers
from dsqlproxy.commands.clocks import system_clocks
from dsqlproxy.commands.diagnosis import Diagnosis, Instruments
from dsqlproxy.config import ListenerConfig
from dsqlproxy.errors import TokenError
from dsqlproxy.ops.doctor import Chart, Checkup, Finding, Outcome, Step
from dsqlproxy.pgproto.codes import BackendType, FrontendType
from dsqlproxy.pgproto.framing import frame
from dsqlproxy.pgproto.messages import NoticeResponse
from dsqlproxy.pgproto.startup import SSLRequest, StartupMessage
from tests.kit.scripted import (
    Conversation,
    EndOfStream,
    Script,
    scripted_server,
)
from tests.upstream.wire import (
    CLEARTEXT,
    CLUSTER,
    GREETING,
    READY,
    Authority,
)

CALLER = "arn:aws:sts::111122223333:assumed-role/developer/me"
ANSWER = (
    NoticeResponse.build("NOTICE", "00000", "by the way").encode()
    + frame(BackendType.DATA_ROW, b"\0\x01\0\0\0\x011")
    + READY
)


@dataclass
class Aws:
    """What the examination hears of AWS; `hang` has it hear nothing more."""

    credentials: TokenError | None = None
    caller: str | None = CALLER
    seconds_ahead: float = 0.0
    no_date: str = ""
    hanging: threading.Event | None = None
    signed: list[SigningRequest] = field(default_factory=list)

    async def current(self) -> Credentials:
        if self.credentials:
            raise self.credentials
        return Credentials("AKIAIOSFODNN7EXAMPLE", Secret("secret"))

    async def sign(self, request: SigningRequest) -> Token:
        self.signed.append(request)
        return Token("the-token", role=request.role, lifetime_seconds=60)

    def ask_caller(self, _credentials: Credentials, _region: str) -> str | None:
        self._perhaps_hang()
        return self.caller

    def ask_date(self, _endpoint: str, **_: object) -> float:
        self._perhaps_hang()
        if self.no_date:
            raise NoDate(self.no_date)
        return self.seconds_ahead

    def _perhaps_hang(self) -> None:
        if self.hanging:
            self.hanging.wait(10)


def cluster(
    context: ssl.SSLContext,
    then: Callable[[Conversation], Any],
    *,
    by_request: bool = False,
) -> Script:
    """Play a cluster up to its first statement."""

    async def script(peer: Conversation) -> None:
        if by_request:
            assert await peer.receive_packet() == SSLRequest()
            await peer.send(b"S")
        with contextlib.suppress(EndOfStream, ConnectionError):
            await peer.start_tls(context)
            startup = await peer.receive_packet()
            assert isinstance(startup, StartupMessage)
            assert startup.get("application_name") == "dsqlproxy check"
            await peer.send(CLEARTEXT)
            assert (await peer.receive_frame()).type == FrontendType.PASSWORD
            await peer.send(GREETING)
            query = await peer.receive_frame()
            assert query == (FrontendType.QUERY, b"SELECT 1\0")
            await then(peer)

    return script


async def answers(peer: Conversation) -> None:
    await peer.send(ANSWER[:7])
    await peer.send(ANSWER[7:])
    assert (await peer.receive_frame()).type == FrontendType.TERMINATE
    await peer.receive_end()


def instruments(aws: Aws, workers: Workers) -> Instruments:
    return Instruments(
        system_clocks(),
        workers,
        {},
        caller_arn=aws.ask_caller,
        seconds_ahead=aws.ask_date,
        aws_seconds=0.05,
        query_seconds=0.05,
    )


async def examined(
    aws: Aws, authority: Authority, address: str, **settings: object
) -> Checkup:
    listener = ListenerConfig.model_validate(
        {
            "cluster": CLUSTER,
            "connect_address": address,
            "ca_file": str(authority.ca_file),
            **settings,
        }
    )
    workers = Workers(3, name="test")
    clocks = system_clocks()
    try:
        diagnosis = Diagnosis(
            listener,
            role="admin",
            tokens=aws,
            chart=Chart(clocks.monotonic),
            instruments=instruments(aws, workers),
        )
        return await diagnosis.run()
    finally:
        workers.close()


Examine = Callable[..., Any]


@asynccontextmanager
async def playing(
    aws: Aws, authority: Authority, *scripts: Script
) -> AsyncIterator[Examine]:
    async with scripted_server(*scripts) as server:

        async def examine(**settings: object) -> dict[Step, Finding]:
            address = f"{server.host}:{server.port}"
            checkup = await examined(aws, authority, address, **settings)
            return {each.step: each for each in checkup.findings}

        yield examine


def outcomes(found: dict[Step, Finding]) -> dict[str, str]:
    """Give how each step is, without those that are skipped."""
    return {
        step.value: finding.outcome.value
        for step, finding in found.items()
        if finding.outcome is not Outcome.SKIPPED
    }


def trouble(found: dict[Step, Finding], step: Step) -> str:
    """Give all that is said of what is wrong with one step, the only one."""
    failed = [each for each in found if found[each].outcome is Outcome.FAILED]
    assert failed == [step]
    what = found[step].trouble
    assert what
    return f"{what.message} {what.detail} {what.hint}"


ALL_WELL = dict.fromkeys(
    ("dns", "tcp", "tls", "credentials", "clock", "token", "login", "query"), "ok"
)
