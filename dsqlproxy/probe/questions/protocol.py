"""Questions about the protocol after the login."""

from typing import Final

from dsqlproxy.errors import ConnectionLost, Peer
from dsqlproxy.pgproto.codes import BackendType
from dsqlproxy.pgproto.framing import Frame
from dsqlproxy.pgproto.messages import SYNC
from dsqlproxy.probe.cluster import Cluster
from dsqlproxy.probe.line import Line
from dsqlproxy.probe.question import Question
from dsqlproxy.probe.reply import Reply, said, types_of
from dsqlproxy.probe.report import Answer, Evidence
from dsqlproxy.probe.requests import (
    FLUSH,
    bind,
    describe_portal,
    describe_statement,
    execute,
    extended,
    function_call,
    parse,
    query,
)

CANCELLED: Final = "57014"

INT4PL: Final = 177
"""The oid of int4pl(int4, int4); the same in every PostgreSQL (pg_proc.dat)."""

_HEAVY: Final = (
    "SELECT pg_catalog.count(*) FROM pg_catalog.generate_series(1, 1000000000)"
)
_FIVE_ROWS: Final = "SELECT n FROM pg_catalog.generate_series(1, 5) AS n"


async def _cancel(cluster: Cluster) -> Answer:
    async with cluster.session() as line:
        key = line.key
        if key is None:
            return Answer("no key", {})
        sleep = f"SELECT pg_catalog.pg_sleep({cluster.pace.sleep_seconds:g})"
        what = "pg_sleep"
        early = await _begin(cluster, line, sleep)
        if early.error is not None:
            what = "count(*) of a billion rows"
            refused = said(early.error)
            early = await _begin(cluster, line, _HEAVY)
        else:
            refused = ""
        if early.is_whole:
            return Answer("no query ran long enough", {"pg_sleep": refused or "ok"})
        began = cluster.clocks.monotonic()
        how = await cluster.cancel(key, line.address)
        reply = await line.hear()
        took = cluster.clocks.monotonic() - began
    evidence: dict[str, Evidence] = {
        "query": what,
        "pg_sleep": refused or "runs",
        "the cancel connection": how,
        "types": types_of(early.frames + reply.frames),
        "seconds until the answer": round(took, 3),
        "text": said(reply.error) if reply.error else "none",
    }
    if reply.sqlstate == CANCELLED:
        return Answer("honoured", evidence)
    return Answer("ignored" if reply.verdict == "ok" else reply.verdict, evidence)


async def _begin(cluster: Cluster, line: Line, sql: str) -> Reply:
    """Begin a query that takes long; give what came until it surely runs."""
    line.send(query(sql))
    reply = await line.hear(seconds=cluster.pace.cancel_after_seconds)
    if reply.ending is not None:
        raise ConnectionLost(f"the connection was {reply.ending}", peer=Peer.UPSTREAM)
    return reply


async def _lone_sync(cluster: Cluster) -> Answer:
    async with cluster.session() as line:
        one = await line.ask(SYNC)
        three = await line.ask(SYNC * 3, units=3)
    return Answer(
        f"{one.types} ({one.status})",
        {"three at once": three.types, "seconds": round(one.seconds, 4)},
    )


async def _flush(cluster: Cluster) -> Answer:
    silence = cluster.pace.silence_seconds
    async with cluster.session() as line:
        line.send(parse("SELECT 1", name="probe"), describe_statement("probe"), FLUSH)
        flushed = await line.hear(seconds=silence, is_last=_ends_describe)
        if flushed.ending is not None:
            return Answer(flushed.verdict, {"types": flushed.types})
        synced = await line.ask(SYNC)
        later = await line.ask(bind(statement="probe"), execute(), SYNC)
    return Answer(
        "answered" if flushed.is_whole else "silent until Sync",
        {
            "types after Flush": flushed.types,
            "types after Sync": f"{synced.types} ({synced.status})",
            "types of its execution": later.types,
            "seconds": round(flushed.seconds, 3),
        },
    )


def _ends_describe(one: Frame) -> bool:
    return one.type in {
        BackendType.ROW_DESCRIPTION,
        BackendType.NO_DATA,
        BackendType.ERROR_RESPONSE,
    }


async def _row_limit(cluster: Cluster) -> Answer:
    parts = (parse(_FIVE_ROWS), bind(), describe_portal(), execute(rows=2))
    async with cluster.session() as line:
        reply = await line.ask(*parts, execute(rows=2), execute(), SYNC)
    if reply.error is not None:
        return Answer(reply.verdict, {"types": reply.types, "text": said(reply.error)})
    is_suspended = reply.count(BackendType.PORTAL_SUSPENDED) == 2
    return Answer(
        "suspended" if is_suspended else "not suspended",
        {
            "types": reply.types,
            "tags": list(reply.tags),
            "rows": [str(row[0]) for row in reply.rows if row],
        },
    )


async def _function_call(cluster: Cluster) -> Answer:
    async with cluster.session() as line:
        line.send(function_call(INT4PL, 2, 3))
        reply = await line.hear(seconds=cluster.pace.silence_seconds)
    evidence: dict[str, Evidence] = {
        "types": reply.types,
        "text": said(reply.error) if reply.error else "none",
    }
    if reply.count(BackendType.FUNCTION_CALL_RESPONSE):
        return Answer("answered", evidence)
    return Answer(reply.verdict, evidence)


async def _pipelining(cluster: Cluster) -> Answer:
    count = cluster.pace.queries
    evidence: dict[str, Evidence] = {}
    answered = []
    for name, one in (
        ("extended", extended("SELECT 1")),
        ("simple", query("SELECT 1")),
    ):
        async with cluster.session() as line:
            line.send(one * count)
            reply = await line.hear(units=count)
        answered.append(str(reply.count(BackendType.READY_FOR_QUERY)))
        evidence[f"{name}, seconds"] = round(reply.seconds, 3)
        evidence[f"{name}, outcome"] = reply.verdict
    return Answer(" and ".join(answered) + f" of {count}", evidence)


PROTOCOL_QUESTIONS: Final = (
    Question(
        "cancel",
        "Is a CancelRequest honoured, over TLS with the cluster's name?",
        "The proxy passes cancel requests of clients on in this way.",
        _cancel,
        extra_seconds=lambda pace: 2 * pace.sleep_seconds,
    ),
    Question(
        "lone_sync",
        "What answers a Sync when nothing was asked?",
        "The proxy asks so whether a session is alive.",
        _lone_sync,
    ),
    Question(
        "flush",
        "Are Parse and Describe answered after a Flush, without a Sync?",
        "asyncpg prepares statements in this way, and may then be idle for long.",
        _flush,
    ),
    Question(
        "row_limit",
        "Does Execute with a limit of rows suspend its portal?",
        "Drivers fetch large results so; a session is not moved meanwhile.",
        _row_limit,
    ),
    Question(
        "function_call",
        "Is the protocol's FunctionCall answered?",
        "The proxy passes it on and waits for one answer.",
        _function_call,
    ),
    Question(
        "pipelining",
        "How many queries may be written in one go, and how long do they take?",
        "The proxy passes pipelines on without a limit of its own.",
        _pipelining,
    ),
)
