"""What a real cluster answered to 58 probes, the emulator's rules answer too.

The data names its source in its first line. The probes run in the order in which
they were recorded, in one database, because a few of them see what earlier ones did.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dsqlproxy.pgproto.codes import BackendType, FrontendType
from dsqlproxy.pgproto.framing import Frame, frame
from tests.kit.ruled import (
    FRESH,
    RawClient,
    errors,
    extended,
    query,
    run_directly,
    serve_rules,
    status,
    tags,
)

_DATA = Path(__file__).parents[2] / "data" / "cluster-observations.jsonl"
_FIXTURE, *_CASES = map(json.loads, _DATA.read_text().splitlines())
_SYNC = frame(FrontendType.SYNC)

Case = dict[str, Any]


@pytest.fixture
async def client(database: Path) -> AsyncIterator[RawClient]:
    await run_directly(database, FRESH, user="postgres")
    await run_directly(database, "; ".join(_FIXTURE["fixture"]))
    async with serve_rules(database) as server, server.raw() as connected:
        yield connected


def _earlier(case: Case) -> list[str]:
    """Give what ran before a probe and shows in it: the row `tx` of `commit`."""
    if case["name"] != "rollback":
        return []
    commit = next(other for other in _CASES if other["name"] == "commit")
    return list(commit["steps"])


@pytest.mark.parametrize("case", _CASES, ids=[case["name"] for case in _CASES])
async def test_a_simple_query_is_answered_as_by_a_cluster(
    client: RawClient, case: Case
) -> None:
    for step in _earlier(case):
        await client.ask(query(step))
    for step, observed in zip(case["steps"], case["observations"], strict=True):
        _compare(await client.ask(query(step)), observed, case)


_SINGLE = [case for case in _CASES if not case.get("simple_protocol")]


@pytest.mark.parametrize("case", _SINGLE, ids=[case["name"] for case in _SINGLE])
async def test_an_extended_query_is_answered_as_by_a_cluster(
    client: RawClient, case: Case
) -> None:
    for step in _earlier(case):
        await client.ask(query(step))
    for step, observed in zip(case["steps"], case["observations"], strict=True):
        _compare(await client.ask(extended(step) + _SYNC), observed, case)


async def test_the_tables_that_the_probes_need_are_accepted(database: Path) -> None:
    await run_directly(database, FRESH, user="postgres")
    async with serve_rules(database) as server, server.raw() as client:
        for statement in _FIXTURE["fixture"]:
            assert not errors(await client.ask(query(statement))), statement


def test_all_58_probes_are_replayed() -> None:
    assert len(_CASES) == 58


def _compare(received: list[Frame], observed: Case, case: Case) -> None:
    if observed["outcome"] == "error":
        assert errors(received) == [(observed["sqlstate"], observed["message"])]
        assert status(received) == ("E" if case["steps"][0] == "BEGIN" else "I")
        return
    assert not errors(received)
    results = observed.get("results") or [observed]
    assert tags(received) == [result["tag"] for result in results]
    columns = [name for result in results for name in result.get("columns", ())]
    assert _columns(received) == columns
    if not case.get("ignore_rows"):
        rows = [row for result in results for row in result.get("rows", ())]
        assert _rows(received) == rows
    else:
        assert len(_rows(received)) == sum(len(r.get("rows", ())) for r in results)


def _columns(received: list[Frame]) -> list[str]:
    names = []
    for kind, body in received:
        if kind == BackendType.ROW_DESCRIPTION:
            rest = body[2:]
            for _ in range(int.from_bytes(body[:2], "big")):
                name, _, rest = rest.partition(b"\0")
                names.append(name.decode())
                rest = rest[18:]
    return names


def _rows(received: list[Frame]) -> list[list[str | None]]:
    rows = []
    for kind, body in received:
        if kind == BackendType.DATA_ROW:
            row: list[str | None] = []
            rest = body[2:]
            for _ in range(int.from_bytes(body[:2], "big")):
                length = int.from_bytes(rest[:4], "big", signed=True)
                row.append(rest[4 : 4 + length].decode() if length >= 0 else None)
                rest = rest[4 + max(0, length) :]
            rows.append(row)
    return rows
