"""Questions about prepared statements and what else a session remembers."""

from typing import Final

from dsqlproxy.pgproto.codes import BackendType
from dsqlproxy.pgproto.messages import SYNC
from dsqlproxy.probe.cluster import Cluster
from dsqlproxy.probe.question import Question
from dsqlproxy.probe.reply import said
from dsqlproxy.probe.report import Answer, Evidence
from dsqlproxy.probe.requests import (
    bind,
    describe_statement,
    execute,
    extended,
    parse,
)

_COUNT_STATEMENTS: Final = (
    "SELECT pg_catalog.count(*)::pg_catalog.text FROM pg_catalog.pg_prepared_statements"
    " WHERE name LIKE 'probe%'"
)


async def _named_statements(cluster: Cluster) -> Answer:
    count = cluster.pace.statements
    parses = (
        parse(f"SELECT {number}", name=f"probe_{number}") for number in range(count)
    )
    async with cluster.session() as line:
        reply = await line.ask(*parses, SYNC)
        good = reply.count(BackendType.PARSE_COMPLETE)
        last = bind(statement=f"probe_{max(0, good - 1)}") + execute() + SYNC
        ran = await line.ask(last)
        listed = await line.ask(extended(_COUNT_STATEMENTS))
    evidence: dict[str, Evidence] = {
        "seconds": round(reply.seconds, 3),
        "types": reply.types,
        "the last one": ran.verdict,
        "in pg_prepared_statements": (
            listed.verdict if listed.error else listed.value() or ""
        ),
    }
    if reply.error is not None:
        evidence["text"] = said(reply.error)
    return Answer(f"{good} of {count}", evidence)


async def _stale_statement(cluster: Cluster) -> Answer:
    describe = describe_statement("probe") + SYNC
    async with cluster.session() as line:
        await line.run("SET search_path TO 'information_schema'")
        parsed = await line.ask(parse("SELECT * FROM tables", name="probe"), SYNC)
        fresh = await line.ask(describe)
        await line.run("SET search_path TO 'pg_catalog'")
        stale = await line.ask(describe)
        await line.run("SET search_path TO 'information_schema'")
        healed = await line.ask(describe)
    evidence: dict[str, Evidence] = {
        "Parse": parsed.verdict,
        "Describe while it resolves": f"{fresh.types}, {fresh.verdict}",
        "Describe while it does not": f"{stale.types}, {stale.verdict}",
        "Describe when it does again": f"{healed.types}, {healed.verdict}",
        "text": said(stale.error) if stale.error else "none",
    }
    if parsed.error is not None:
        return Answer(f"Parse: {parsed.verdict}", evidence)
    return Answer(stale.verdict, evidence)


async def _sequences(cluster: Cluster) -> Answer:
    each: dict[str, str] = {}
    texts: dict[str, str] = {}
    async with cluster.session() as line:
        for sql in (
            "SELECT pg_catalog.lastval()",
            "SELECT pg_catalog.currval('pg_catalog.no_such_sequence')",
        ):
            reply = await line.run(sql)
            each[sql] = reply.verdict
            if reply.error is not None:
                texts[sql] = said(reply.error)
    return Answer(", ".join(each.values()), {"each": each, "texts": texts})


STATEMENT_QUESTIONS: Final = (
    Question(
        "named_statements",
        "How many named statements may a session have, and how long do they take?",
        "A swap makes each of them anew.",
        _named_statements,
    ),
    Question(
        "stale_statement",
        "What does Describe say of a statement whose table is no longer found?",
        "A swap leaves such statements out. The table is lost to search_path here: "
        "nothing is created.",
        _stale_statement,
    ),
    Question(
        "sequences",
        "Are lastval and currval there? (55000 and 42P01 would say that they are.)",
        "Their values belong to a session and are lost in a swap.",
        _sequences,
    ),
)
