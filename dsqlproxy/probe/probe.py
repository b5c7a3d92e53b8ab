"""Asks all questions, one after the other, and makes the report."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from dsqlproxy import __version__
from dsqlproxy.clocks import Clocks
from dsqlproxy.dsql import ADMIN_ROLE
from dsqlproxy.errors import (
    ConnectionLost,
    DsqlProxyError,
    TokenError,
    UpstreamRejected,
    UpstreamUnavailable,
)
from dsqlproxy.probe.catalogue import LEFT_OUT, LEFT_OUT_WHEN_SHORT, LONG, QUESTIONS
from dsqlproxy.probe.cluster import Cluster, Signer
from dsqlproxy.probe.masking import ADDRESS, CLUSTER, ROLE, Masking
from dsqlproxy.probe.pace import Pace
from dsqlproxy.probe.question import Question
from dsqlproxy.probe.reply import rejection_said
from dsqlproxy.probe.report import Answer, Answered, ProbeReport
from dsqlproxy.upstream.connector import Target, UpstreamStartup
from dsqlproxy.upstream.resolve import Resolver, resolve

MAX_FAILURES_IN_A_ROW: Final = 3
"""So many questions that no cluster answered: the rest would only wait in vain."""


async def run_probe(
    target: Target,
    tokens: Signer,
    startup: UpstreamStartup,
    *,
    clocks: Clocks,
    is_long: bool = False,
    pace: Pace | None = None,
    resolver: Resolver = resolve,
    on_answer: Callable[[Answered], None] | None = None,
) -> ProbeReport:
    """Ask a cluster all questions; ``is_long`` adds those that take an hour.

    A question that fails does not stop the others, so it returns whatever happens,
    except for `ConfigError` where there is no authority to verify a cluster with.
    ``startup`` is that of an ordinary session; ``on_answer`` is told each answer,
    as it will be in the report.
    """
    pace = pace or Pace()
    masking = _masking_for(target, startup)
    cluster = Cluster(
        target,
        tokens,
        startup,
        clocks=clocks,
        masking=masking,
        pace=pace,
        resolver=resolver,
    )
    run = _Run(cluster, masking, on_answer)
    began = clocks.monotonic()
    asked_at = clocks.wall()
    for question in QUESTIONS:
        await run.ask(question)
    if is_long:
        async with asyncio.TaskGroup() as group:
            for question in LONG:
                group.create_task(run.ask(question))
    order = [question.key for question in (*QUESTIONS, *LONG)]
    return ProbeReport(
        program=f"dsqlproxy {__version__}",
        asked_at=asked_at,
        region=target.region,
        role=ADMIN_ROLE if startup.role == ADMIN_ROLE else "another",
        is_long=is_long,
        seconds=clocks.monotonic() - began,
        answers=tuple(sorted(run.answers, key=lambda one: order.index(one.key))),
        left_out=LEFT_OUT if is_long else (*LEFT_OUT, LEFT_OUT_WHEN_SHORT),
    )


@dataclass(slots=True)
class _Run:
    """The answers so far."""

    cluster: Cluster
    masking: Masking
    on_answer: Callable[[Answered], None] | None
    answers: list[Answered] = field(default_factory=list)
    failures: int = 0
    """How many questions before this one could not reach the cluster, in a row."""

    async def ask(self, question: Question) -> None:
        """Ask one question; whatever becomes of it is an answer."""
        began = self.cluster.clocks.monotonic()
        answer: Answer | None = None
        reason = ""
        if self.failures >= MAX_FAILURES_IN_A_ROW:
            reason = "the cluster could not be reached for the questions before"
        else:
            try:
                answer = self.masking.of_answer(await self._answer(question))
                self.failures = 0
            except DsqlProxyError as error:
                reason = _reason(error)
                is_far = isinstance(error, UpstreamUnavailable | ConnectionLost)
                self.failures = self.failures + 1 if is_far else 0
            except Exception as error:  # noqa: BLE001 - a report with a hole is worth
                # more than none, and a traceback may hold what no report may.
                reason = f"unexpected {type(error).__name__}"
        answered = Answered(
            key=question.key,
            question=question.words,
            matters=question.matters,
            seconds=self.cluster.clocks.monotonic() - began,
            answer=answer,
            could_not=self.masking.of_text(reason),
        )
        self.answers.append(answered)
        if self.on_answer is not None:
            self.on_answer(answered)

    async def _answer(self, question: Question) -> Answer:
        pace = self.cluster.pace
        seconds = pace.question_seconds + question.extra_seconds(pace)
        try:
            async with asyncio.timeout(seconds):
                return await question.ask(self.cluster)
        except TimeoutError:
            msg = f"no answer within {seconds:g} s"
            raise UpstreamUnavailable(msg) from None


def _reason(error: DsqlProxyError) -> str:
    """Say why a question could not be asked."""
    if isinstance(error, UpstreamRejected):
        return f"the login was refused: {rejection_said(error)}"
    if isinstance(error, TokenError):
        return "no token could be signed"  # its words name profiles and files
    words = (error.message, error.detail)  # what to do about it is known here
    return ". ".join(word.rstrip(".") for word in words if word)


def _masking_for(target: Target, startup: UpstreamStartup) -> Masking:
    """Learn all names that would tell which cluster it is, and whose."""
    masking = Masking()
    for name in (target.host, target.server_name):
        masking.add(name, CLUSTER)
    masking.add(target.host.partition(".")[0], CLUSTER)
    masking.add(str(target.dialled), ADDRESS)
    masking.add(target.dialled.host, ADDRESS)
    if startup.role != ADMIN_ROLE:
        masking.add(startup.role, ROLE)
    return masking
