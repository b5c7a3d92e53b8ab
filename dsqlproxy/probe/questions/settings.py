"""Questions about settings: how they are read, set, reported and reset."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from dsqlproxy.dsql import ACCEPTED_PARAMETERS
from dsqlproxy.errors import ProtocolError
from dsqlproxy.pgproto.messages import SYNC
from dsqlproxy.probe.cluster import Cluster
from dsqlproxy.probe.line import Line
from dsqlproxy.probe.question import Question
from dsqlproxy.probe.reply import Reply, said
from dsqlproxy.probe.report import Answer, Evidence
from dsqlproxy.probe.requests import describe_statement, extended, parse
from dsqlproxy.probe.trials import TRIALS

_SHOWN: Final = (
    "server_version",
    "server_version_num",
    "server_encoding",
    "client_encoding",
    "TimeZone",
    "DateStyle",
    "IntervalStyle",
    "search_path",
    "standard_conforming_strings",
    "transaction_isolation",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "statement_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "lc_collate",
    "max_identifier_length",
)
_RESETS: Final = (
    "RESET ALL",
    "RESET ROLE",
    "RESET SESSION AUTHORIZATION",
    "DEALLOCATE ALL",
    "DISCARD ALL",
    "DISCARD PLANS",
    "CLOSE ALL",
    "UNLISTEN *",
)
_SOURCES: Final = (
    "SELECT source, pg_catalog.count(*)::pg_catalog.text"
    " FROM pg_catalog.pg_settings GROUP BY source ORDER BY source"
)
_OF_SESSION: Final = (
    "SELECT name FROM pg_catalog.pg_settings WHERE source = 'session' ORDER BY name"
)
_TOLD_PATH: Final = "SELECT pg_catalog.set_config('search_path', '', false)"

_Assign = Callable[[Line, str, str], Awaitable[Reply]]


async def _environment(cluster: Cluster) -> Answer:
    shown: dict[str, str] = {}
    async with cluster.session() as line:
        version = await line.run("SELECT pg_catalog.version()")
        for name in _SHOWN:
            reply = await line.run(f"SHOW {name}")
            shown[name] = (reply.value() or "") if not reply.error else reply.verdict
    value = version.verdict if version.error else version.value()
    return Answer(
        shown["server_version"], {"version()": value or "", "settings": shown}
    )


async def _current_settings(cluster: Cluster) -> Answer:
    names = sorted(ACCEPTED_PARAMETERS)
    columns = (f"pg_catalog.current_setting('{name}', true)" for name in names)
    async with cluster.session() as line:
        reply = await line.ask(extended(f"SELECT {', '.join(columns)}"))
    _raise_for(reply)
    if [len(row) for row in reply.rows] != [len(names)]:
        raise ProtocolError("not one row of all settings was answered")
    values = dict(zip(names, reply.rows[0], strict=True))
    unknown = [name for name, value in values.items() if value is None]
    is_known = values["dsql.enable_batched_nestloop"] is not None
    return Answer(
        "dsql.enable_batched_nestloop is " + ("known" if is_known else "null"),
        {
            "null": unknown,
            "values": {name: value for name, value in values.items() if value},
            "seconds": round(reply.seconds, 3),
        },
    )


async def _set_config(cluster: Cluster) -> Answer:
    answer = await _assigned(cluster, _by_set_config)
    async with cluster.session() as line:
        literal = await line.run(_TOLD_PATH)
    how = f"{_TOLD_PATH} as a simple query"
    return Answer(answer.value, {**answer.evidence, how: literal.verdict})


async def _plain_set(cluster: Cluster) -> Answer:
    return await _assigned(cluster, _by_set)


async def _by_set_config(line: Line, name: str, value: str) -> Reply:
    sql = "SELECT pg_catalog.set_config($1, $2, false)"
    return await line.ask(extended(sql, name, value))


async def _by_set(line: Line, name: str, value: str) -> Reply:
    return await line.run(f"SET {name} TO '{value}'")


async def _assigned(cluster: Cluster, assign: _Assign) -> Answer:
    """Set every setting in one way, read it back, and sort them by what came of it."""
    outcomes: dict[str, list[str]] = {}
    text = ""
    async with cluster.session() as line:
        for name, value in _assignments():
            reply = await assign(line, name, value)
            outcome = reply.verdict
            if reply.error is None:
                found = await _read_back(line, name)
                outcome = "ok" if found == value else f"reads {found!r} afterwards"
            else:
                text = text or said(reply.error)
            label = name if value else f"{name}=''"
            outcomes.setdefault(outcome, []).append(label)
    good = len(outcomes.get("ok", ()))
    total = sum(map(len, outcomes.values()))
    value = {0: "none", total: "all"}.get(good, f"{good} of {total}")
    evidence: dict[str, Evidence] = {**outcomes}
    if text:
        evidence["first text"] = text
    return Answer(value, evidence)


def _assignments() -> Iterator[tuple[str, str]]:
    yield from TRIALS.items()
    yield "search_path", ""


async def _read_back(line: Line, name: str) -> str | None:
    sql = "SELECT pg_catalog.current_setting($1, true)"
    reply = await line.ask(extended(sql, name))
    _raise_for(reply)
    return reply.value()


async def _sources(cluster: Cluster) -> Answer:
    async with cluster.session() as line:
        counted = await line.run(_SOURCES)
        if counted.error is not None:
            return Answer(counted.verdict, {"text": said(counted.error)})
        before = _names(await line.run(_OF_SESSION))
        changed = await line.run("SET timezone TO 'Asia/Tokyo'")
        after = _names(await line.run(_OF_SESSION))
    others = [name for name in before if name.lower() not in ACCEPTED_PARAMETERS]
    works = "timezone" in {name.lower() for name in after}
    return Answer(
        ("shows" if works else "does not show") + " what a session sets",
        {
            "by source": {str(row[0]): str(row[-1]) for row in counted.rows},
            "of the session before": before,
            "of the session after SET timezone": after,
            "SET timezone": changed.verdict,
            "unknown to the proxy": others,
        },
    )


async def _show_all(cluster: Cluster) -> Answer:
    async with cluster.session() as line:
        reply = await line.run("SHOW ALL")
    if reply.error is not None:
        return Answer(reply.verdict, {"text": said(reply.error)})
    own = [row[0] or "" for row in reply.rows if row and "dsql" in (row[0] or "")]
    return Answer(
        "accepted",
        {
            "tag": list(reply.tags),
            "rows": len(reply.rows),
            "names with dsql": own,
            "seconds": round(reply.seconds, 3),
        },
    )


async def _resets(cluster: Cluster) -> Answer:
    each: dict[str, str] = {}
    async with cluster.session() as line:
        for sql in _RESETS:
            reply = await line.run(sql)
            tag = ", ".join(reply.tags)
            each[sql] = f"tag {tag}" if reply.error is None else reply.verdict
        await line.ask(parse("SELECT 1", name="probe") + SYNC)
        await line.run("DEALLOCATE ALL")
        left = await line.ask(describe_statement("probe") + SYNC)
    accepted = [sql for sql, outcome in each.items() if outcome.startswith("tag")]
    return Answer(
        ", ".join(accepted) or "none",
        {"each": each, "a statement of Parse after DEALLOCATE ALL": left.verdict},
    )


def _names(reply: Reply) -> list[str]:
    _raise_for(reply)
    return [row[0] or "" for row in reply.rows if row]


def _raise_for(reply: Reply) -> None:
    if reply.error is not None:
        raise ProtocolError(f"the cluster said {said(reply.error)}")


SETTINGS_QUESTIONS: Final = (
    Question(
        "environment",
        "Which version is it, and what are the defaults of a session?",
        "Answers to all other questions belong to this version.",
        _environment,
    ),
    Question(
        "current_settings",
        "Can all 17 settings be read in one row, and which of them are null?",
        "This is how a swap learns what a session has set.",
        _current_settings,
    ),
    Question(
        "set_config",
        "Does set_config(name, value, false) work for each of the 17 settings?",
        "A swap sets values with it where it can; AWS's own tools disagree about it.",
        _set_config,
    ),
    Question(
        "plain_set",
        "Does SET name TO 'value' work for each of the 17 settings?",
        "A swap sets values so where set_config is refused.",
        _plain_set,
    ),
    Question(
        "setting_sources",
        "Does pg_settings tell what a session has set, and is there more than the 17?",
        "A setting that the proxy does not know would be lost in a swap.",
        _sources,
    ),
    Question(
        "show_all",
        "Is SHOW ALL accepted?",
        "It would show settings that nobody knows of.",
        _show_all,
    ),
    Question(
        "resets",
        "Which statements that reset a session are accepted, and with which tags?",
        "Some of them end prepared statements, which a swap would restore otherwise.",
        _resets,
    ),
)
