"""Questions that take up to an hour: how long a session may live, and how it ends."""

from dataclasses import replace
from typing import Final

from dsqlproxy.pgproto.framing import Frame
from dsqlproxy.pgproto.messages import SYNC
from dsqlproxy.probe.cluster import Cluster
from dsqlproxy.probe.line import Line
from dsqlproxy.probe.pace import Pace
from dsqlproxy.probe.question import Question
from dsqlproxy.probe.reply import Reply, said
from dsqlproxy.probe.report import Answer, Evidence
from dsqlproxy.probe.requests import (
    FLUSH,
    bind,
    describe_statement,
    execute,
    parse,
    query,
)


async def _idle(cluster: Cluster) -> Answer:
    async with cluster.session() as line:
        return await _watched(cluster, line)


async def _busy(cluster: Cluster) -> Answer:
    async with cluster.session() as line:
        return await _watched(cluster, line, beat_seconds=cluster.pace.beat_seconds)


async def _in_transaction(cluster: Cluster) -> Answer:
    async with cluster.session() as line:
        begun = await line.run("BEGIN")
        await line.run("SELECT 1")
        answer = await _watched(cluster, line)
    return Answer(answer.value, {"BEGIN": begun.verdict, **answer.evidence})


async def _late_transaction(cluster: Cluster) -> Answer:
    pace = cluster.pace
    async with cluster.session() as line:
        early = await _end_until(
            line, pace.transaction_after_seconds, beat_seconds=pace.beat_seconds
        )
        if early is not None:
            return _ended(line, early)
        begun_at = line.age_seconds
        begun = await line.run("BEGIN")
        await line.run("SELECT 1")
        answer = await _watched(cluster, line)
    evidence: dict[str, Evidence] = {
        "BEGIN": begun.verdict,
        "begun after seconds": round(begun_at, 1),
        **answer.evidence,
    }
    return Answer(answer.value, evidence)


async def _open_pipeline(cluster: Cluster) -> Answer:
    pace = cluster.pace
    async with cluster.session() as line:
        line.send(parse("SELECT 1", name="probe"), describe_statement("probe"), FLUSH)
        meanwhile = await line.hear(seconds=pace.pipeline_seconds)
        if meanwhile.ending is not None:
            return _ended(line, meanwhile)
        age = line.age_seconds
        line.send(bind(statement="probe"), execute(), SYNC)
        reply = await line.hear(seconds=pace.silence_seconds)
    evidence: dict[str, Evidence] = {
        "types meanwhile": meanwhile.types,
        "types afterwards": reply.types,
        "text": said(reply.error) if reply.error else "none",
        "seconds": round(age, 1),
    }
    return Answer(reply.verdict, evidence)


async def _watched(
    cluster: Cluster, line: Line, *, beat_seconds: float | None = None
) -> Answer:
    """Wait for the end of a session, or until it has outlived what is documented."""
    reply = await _end_until(
        line, cluster.pace.watch_seconds, beat_seconds=beat_seconds
    )
    return await _still_open(cluster, line) if reply is None else _ended(line, reply)


async def _end_until(
    line: Line, age_seconds: float, *, beat_seconds: float | None = None
) -> Reply | None:
    """Wait for the end; with a beat, let the session say something meanwhile."""
    heard: tuple[Frame, ...] = ()
    while (left := age_seconds - line.age_seconds) > 0:
        reply = await line.hear(seconds=min(left, beat_seconds or left), units=None)
        heard += reply.frames
        if reply.ending is not None:
            return replace(reply, frames=heard)
        if beat_seconds is not None:
            line.send(SYNC)
    return None


def _ended(line: Line, reply: Reply) -> Answer:
    last = said(reply.error) if reply.error else "none"
    return Answer(
        f"{reply.ending} after {line.age_seconds:.0f} s",
        {
            "seconds": round(line.age_seconds, 2),
            "last words": last,
            "types": reply.types,
        },
    )


async def _still_open(cluster: Cluster, line: Line) -> Answer:
    """Look whether it is only believed to be open: a router may have forgotten it."""
    line.send(query("SELECT 1"))
    reply = await line.hear(seconds=cluster.pace.silence_seconds)
    if reply.ending is not None:
        return _ended(line, reply)
    word = "still open" if reply.is_whole else "silent"
    age = line.age_seconds
    return Answer(
        f"{word} after {age:.0f} s",
        {"seconds": round(age, 1), "a query then": reply.verdict},
    )


def _watch(pace: Pace) -> float:
    return pace.watch_seconds


LONG_QUESTIONS: Final = (
    Question(
        "idle_session",
        "When and how does an idle session end?",
        "Every instant of a swap is a fraction of the session limit; the end is seen "
        "as FIN or RST, after a FATAL or without a word.",
        _idle,
        extra_seconds=_watch,
    ),
    Question(
        "busy_session",
        "When and how does a session end that says something every minute?",
        "Compared with the idle one it tells a limit of idleness from that of age.",
        _busy,
        extra_seconds=_watch,
    ),
    Question(
        "session_in_transaction",
        "When and how does a session end that is within a transaction?",
        "The proxy leaves such a session alone as long as the cluster may.",
        _in_transaction,
        extra_seconds=_watch,
    ),
    Question(
        "late_transaction",
        "When and how does a session end whose transaction begins shortly before?",
        "The preview's documentation let such a transaction end by itself.",
        _late_transaction,
        extra_seconds=_watch,
    ),
    Question(
        "open_pipeline",
        "What becomes of a pipeline that stays open longer than a transaction may?",
        "asyncpg leaves one open after each prepare().",
        _open_pipeline,
        extra_seconds=lambda pace: pace.pipeline_seconds,
    ),
)
