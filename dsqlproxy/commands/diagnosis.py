"""The examination of one listener: the way of a login, watched step by step.

The way to the cluster is the connector's own, so what is found here is what a client
would meet. Credentials and clock are looked at beside it, since neither needs the
cluster's network; without good ones the way ends after TLS, and no token is sent.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from dsqlproxy.aws import chain
from dsqlproxy.aws.credentials import Credentials, Identity
from dsqlproxy.aws.date import NoDate, seconds_ahead, sts_endpoint
from dsqlproxy.aws.tokens import SigningRequest, Token, TokenSource
from dsqlproxy.aws.workers import Workers
from dsqlproxy.channel.channel import Channel
from dsqlproxy.clocks import Clocks
from dsqlproxy.commands.diagnosis_text import (
    client_line,
    credentials_text,
    dns_text,
    login_text,
    tls_text,
    token_text,
    trouble_of,
)
from dsqlproxy.config import ListenerConfig
from dsqlproxy.dsql import DATABASE
from dsqlproxy.errors import DsqlProxyError, TokenError, UpstreamRejected
from dsqlproxy.ops.doctor import Chart, Checkup, Finding, Outcome, Step
from dsqlproxy.pgproto.codes import BackendType, FrontendType
from dsqlproxy.pgproto.framing import FrameReader, frame
from dsqlproxy.pgproto.messages import TERMINATE, ErrorResponse
from dsqlproxy.situations import checkup as words
from dsqlproxy.situations.cluster import Cause, cause_of
from dsqlproxy.situations.network import Phase
from dsqlproxy.situations.remedies import (
    Remedy,
    cluster_arn,
    grantable_arn,
    remedy_for,
    set_clock,
)
from dsqlproxy.upstream.connector import Connector, Target, Upstream, UpstreamStartup
from dsqlproxy.upstream.parameters import upstream_parameters
from dsqlproxy.upstream.resolve import resolve
from dsqlproxy.upstream.securing import Attempt

AWS_SECONDS: Final = 2.0
"""For what is nice to know: AWS's time, and the name of who signs."""

CREDENTIALS_SECONDS: Final = 8.0
"""What a fetch may take (`TokenSource`); the name has what it leaves."""

QUERY_SECONDS: Final = 1.5
CLOSE_SECONDS: Final = 0.5

_MAX_ANSWER_BYTES: Final = 1 << 20
_WORKERS: Final = 3  # a name, AWS's time, whose credentials: each may hang
_APPLICATION_NAME: Final = "dsqlproxy check"


class Source(Protocol):
    """What is asked of a `TokenSource`."""

    async def current(self) -> Credentials:
        """Give the credentials that the next token would be signed with."""

    async def sign(self, request: SigningRequest) -> Token:
        """Sign a token."""


@dataclass(frozen=True, slots=True)
class Instruments:
    """What an examination needs of this machine and of AWS; the functions block."""

    clocks: Clocks
    workers: Workers
    environ: Mapping[str, str]
    caller_arn: Callable[[Credentials, str], str | None] = chain.caller_arn
    seconds_ahead: Callable[..., float] = seconds_ahead
    aws_seconds: float = AWS_SECONDS
    query_seconds: float = QUERY_SECONDS


def tokens_for(listener: ListenerConfig, clocks: Clocks) -> TokenSource:
    """Make a listener's token source; whoever asked for it closes it."""
    return TokenSource(
        Identity(listener.profile, listener.assume_role),
        region=listener.endpoint.region,
        clocks=clocks,
    )


async def examine(
    listener: ListenerConfig,
    *,
    role: str,
    configuration: Finding,
    clocks: Clocks,
    environ: Mapping[str, str],
) -> Checkup:
    """Examine a listener with this machine's instruments and its own credentials."""
    chart = Chart(clocks.monotonic)
    chart.record(configuration)
    tokens = tokens_for(listener, clocks)
    workers = Workers(_WORKERS, name="check")
    try:
        diagnosis = Diagnosis(
            listener,
            role=role,
            tokens=tokens,
            chart=chart,
            instruments=Instruments(clocks, workers, environ),
        )
        return await diagnosis.run()
    finally:
        workers.close()
        tokens.close()


class Diagnosis:
    """Examines one listener, once. It owns nothing when `run` has returned.

    Raises `ConfigError` at once for what can be known before the first byte. ``run``
    takes no longer than ``connect_timeout`` and 10 s: 8 s for the credentials, 2 s for
    the statement and the end of the session.
    """

    def __init__(
        self,
        listener: ListenerConfig,
        *,
        role: str,
        tokens: Source,
        chart: Chart,
        instruments: Instruments,
    ) -> None:
        self._listener = listener
        self._role = role
        self._tokens = tokens
        self._chart = chart
        self._instruments = instruments
        self._identity_arn: str | None = None
        self._step = Step.DNS
        self._connector = Connector(
            Target.from_listener(listener),
            _Gate(tokens, chart),
            clocks=instruments.clocks,
            logger=logging.getLogger("dsqlproxy.upstream"),
            resolver=partial(resolve, look_up=self._look_up),
        )

    async def run(self) -> Checkup:
        """Look at everything."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_for_credentials())
            group.create_task(self._compare_clocks())
        await self._walk()
        return Checkup(
            name=self._listener.name,
            cluster=self._listener.endpoint.host,
            findings=self._chart.findings,
            client=client_line(self._listener, self._role),
        )

    # -- beside the way ------------------------------------------------------------

    async def _look_for_credentials(self) -> None:
        chart = self._chart
        chart.begin(Step.CREDENTIALS)
        deadline = asyncio.get_running_loop().time() + CREDENTIALS_SECONDS
        try:
            credentials = await self._tokens.current()
        except TokenError as error:
            chart.failed(Step.CREDENTIALS, trouble_of(error))
            return
        caller = await self._find_caller(credentials, deadline)
        if credentials.role_arn or caller:
            self._identity_arn = credentials.role_arn or grantable_arn(caller or "")
        text = credentials_text(
            credentials,
            profile=self._listener.profile,
            caller=caller,
            now=self._instruments.clocks.wall(),
        )
        chart.passed(Step.CREDENTIALS, text)

    async def _find_caller(
        self, credentials: Credentials, deadline: float
    ) -> str | None:
        """Ask AWS whose credentials these are, if it answers soon."""
        instruments = self._instruments
        now = asyncio.get_running_loop().time()
        ask = partial(
            instruments.caller_arn, credentials, self._listener.endpoint.region
        )
        try:
            async with asyncio.timeout_at(min(deadline, now + instruments.aws_seconds)):
                return await instruments.workers.run(ask)
        except TimeoutError:
            return None

    async def _compare_clocks(self) -> None:
        chart, instruments = self._chart, self._instruments
        chart.begin(Step.CLOCK)
        region = self._listener.endpoint.region
        ask = partial(
            instruments.seconds_ahead,
            sts_endpoint(region, instruments.environ),
            wall=instruments.clocks.wall,
            timeout_seconds=instruments.aws_seconds,
        )
        try:
            async with asyncio.timeout(instruments.aws_seconds):
                ahead = await instruments.workers.run(ask)
        except TimeoutError:
            reason = f"it did not answer within {instruments.aws_seconds:g} s"
            chart.skipped(Step.CLOCK, words.clock_is_unknown(reason))
        except NoDate as error:
            chart.skipped(Step.CLOCK, words.clock_is_unknown(str(error)))
        else:
            if abs(ahead) > words.REFUSED_SECONDS:
                chart.failed(Step.CLOCK, words.clock_is_off(ahead))
            elif abs(ahead) > words.NOTICED_SECONDS:
                chart.warned(Step.CLOCK, words.clock_is_off(ahead))
            else:
                chart.passed(Step.CLOCK, words.offset_text(ahead))

    # -- the way -------------------------------------------------------------------

    async def _walk(self) -> None:
        """Log in as a session would, ask once, and leave."""
        upstream: Upstream | None = None
        try:
            upstream = await self._connector.open(
                startup_for(self._listener, self._role), on_phase=self._note_phase
            )
            reported = {each.name: each.value for each in upstream.parameters}
            self._chart.passed(Step.LOGIN, login_text(reported, self._role))
            self._step = Step.QUERY
            self._chart.begin(Step.QUERY)
            await select_1(upstream.channel, self._instruments.query_seconds)
            self._chart.passed(Step.QUERY)
        except _NotSigned:
            pass  # why not, is told where it was found
        except UpstreamRejected as error:
            self._chart.failed(self._step, trouble_of(error, self._remedy(error)))
        except DsqlProxyError as error:
            self._chart.failed(self._step, trouble_of(error))
        finally:
            if upstream is not None:
                upstream.channel.write(TERMINATE)
                await upstream.channel.close_within(CLOSE_SECONDS)

    async def _look_up(self, host: str, port: int) -> Sequence[tuple[Any, ...]]:
        """Resolve on a thread that nobody waits for at the end."""
        ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        return await self._instruments.workers.run(ask)

    def _note_phase(self, attempt: Attempt) -> None:
        """Learn from the connector that a phase begins, and so that one has ended."""
        chart = self._chart
        match attempt.phase:
            case Phase.RESOLVE:
                self._step = Step.DNS
            case Phase.CONNECT:
                if chart.outcome(Step.DNS) is Outcome.SKIPPED:
                    chart.passed(
                        Step.DNS, dns_text(attempt, self._listener.connect_address)
                    )
                chart.pause(Step.TLS)  # refused in one way, tried in another
                self._step = Step.TCP
            case Phase.SECURE:
                chart.passed(Step.TCP, ", ".join(map(str, attempt.addresses)))
                self._step = Step.TLS
            case Phase.SIGN:
                chart.passed(Step.TLS, tls_text(attempt))
                self._step = Step.TOKEN
            case Phase.LOG_IN:
                chart.passed(Step.TOKEN, token_text(attempt))
                self._step = Step.LOGIN
            case Phase.CANCEL:
                raise AssertionError("no session is cancelled, because none is open")
        chart.begin(self._step)

    def _remedy(self, error: UpstreamRejected) -> Remedy | None:
        """Give what to paste: a right that is missing, or how to set the clock."""
        if cause_of(error) is Cause.SIGNATURE_EXPIRED:
            is_right = self._chart.outcome(Step.CLOCK) is Outcome.OK
            return None if is_right else set_clock()
        endpoint = self._listener.endpoint
        return remedy_for(
            error,
            role=self._role,
            cluster_arn=cluster_arn(
                endpoint, named=self._listener.cluster, error=error
            ),
            identity_arn=self._identity_arn,
        )


class _NotSigned(Exception):
    """There is no point in a token; the way ends here."""


class _Gate:
    """Lets a token be signed only if credentials and clock are good."""

    def __init__(self, tokens: Source, chart: Chart) -> None:
        self._tokens = tokens
        self._chart = chart

    @property
    def failure(self) -> None:
        """What is wrong with the credentials does not keep the way from being tried."""

    async def sign(self, request: SigningRequest) -> Token:
        """Sign, or end the way."""
        for step in (Step.CREDENTIALS, Step.CLOCK):
            if self._chart.outcome(step) is Outcome.FAILED:
                raise _NotSigned
        return await self._tokens.sign(request)

    def note_refused(self, token: Token, cause: Cause) -> None:
        """Learn nothing from a refusal: there is no other login after it."""

    def note_accepted(self, token: Token) -> None:
        """Learn nothing from this either."""


def startup_for(listener: ListenerConfig, role: str) -> UpstreamStartup:
    """Ask for a session as a client of the listener would."""
    asked = (
        ("user", role),
        ("database", DATABASE),
        ("application_name", _APPLICATION_NAME),
    )
    parameters, _ = upstream_parameters(
        asked,
        role=role,
        database=listener.database,
        startup_options=listener.startup_options or "",
        unsupported=listener.unsupported_parameters,
    )
    return UpstreamStartup(role, parameters)


async def select_1(channel: Channel, timeout_seconds: float) -> None:
    """Have a session answer a statement; `DsqlProxyError` if it does not."""
    channel.write(frame(FrontendType.QUERY, b"SELECT 1\0"))
    reader = FrameReader(max_bytes=_MAX_ANSWER_BYTES)
    try:
        async with asyncio.timeout(timeout_seconds):
            while data := await channel.read():
                message = reader.next_frame(data)
                while message is not None:
                    if message.type == BackendType.ERROR_RESPONSE:
                        said = ErrorResponse.decode(message.body)
                        raise UpstreamRejected(said.message, fields=said.fields)
                    if message.type == BackendType.READY_FOR_QUERY:
                        return
                    message = reader.next_frame()
    except TimeoutError:
        raise words.no_answer(f"was silent for {timeout_seconds:g} s") from None
    except ConnectionError:
        pass
    raise words.no_answer("closed the connection")
