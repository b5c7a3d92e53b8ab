"""Answers: which ones end what, and those that DSQL words otherwise. No I/O."""

from struct import Struct
from typing import Final

from dsqlproxy.emulator.ledger import PROCEDURE_MARK
from dsqlproxy.emulator.refusals import Refusal
from dsqlproxy.emulator.script import Wording
from dsqlproxy.emulator.wordings import SHOWN_VERSIONS, STAND_INS
from dsqlproxy.pgproto.codes import BackendType
from dsqlproxy.pgproto.framing import Frame, frame
from dsqlproxy.pgproto.messages import ErrorResponse, ParameterStatus

_COUNT: Final = Struct("!h")
_LENGTH: Final = Struct("!i")
_TEXT_OID: Final = 25
# Table, column number, type, size of the type, modifier, format: text.
_TEXT_COLUMN: Final = Struct("!IhIhih").pack(0, 0, _TEXT_OID, -1, -1, 0)

UNDEFINED_COLUMN: Final = "42703"
CANNOT_SUCCEED: Final = "SELECT refused_by_dsql"
"""A statement that parses, so that a failed transaction says 25P02, and then fails."""

ASYNCHRONOUS: Final = frozenset(
    {BackendType.NOTICE_RESPONSE, BackendType.NOTIFICATION_RESPONSE}
)
ENDS_OF_STATEMENT: Final = frozenset(
    {
        BackendType.COMMAND_COMPLETE,
        BackendType.EMPTY_QUERY_RESPONSE,
        BackendType.PORTAL_SUSPENDED,
    }
)
# The last answers to requests other than Query and Execute.
LAST_ANSWERS: Final = frozenset(
    {
        BackendType.PARSE_COMPLETE,
        BackendType.BIND_COMPLETE,
        BackendType.CLOSE_COMPLETE,
        BackendType.ROW_DESCRIPTION,
        BackendType.NO_DATA,
    }
)

# Where in PostgreSQL an error comes from: of one of our procedures, nobody's concern.
_INTERNAL_FIELDS: Final = frozenset("WFLRqp")

# Observed on a cluster: a column `job_id`, and the tag of the statement.
JOB_COLUMNS: Final = frame(
    BackendType.ROW_DESCRIPTION, _COUNT.pack(1) + b"job_id\0" + _TEXT_COLUMN
)


def job_row(job_id: str) -> bytes:
    """Give the one row that an asynchronous statement answers."""
    return frame(BackendType.DATA_ROW, _row([job_id.encode()]))


def shown_row(shown: str, body: bytes) -> bytes:
    """Give a row of SHOW or SHOW ALL with the version that a cluster shows."""
    values = _values(body)
    if shown in SHOWN_VERSIONS:
        values[0] = SHOWN_VERSIONS[shown].encode()
    elif shown == "all" and (name := (values[0] or b"").decode()) in SHOWN_VERSIONS:
        values[1] = SHOWN_VERSIONS[name].encode()
    return frame(BackendType.DATA_ROW, _row(values))


def shown_column(body: bytes) -> bytes:
    """Give the column of SHOW with the name by which the client knows the setting."""
    for name, stand_in in STAND_INS.items():
        body = body.replace(f"{stand_in}\0".encode(), f"{name}\0".encode())
    return frame(BackendType.ROW_DESCRIPTION, body)


def parameter_status(body: bytes) -> bytes:
    """Give a ParameterStatus with the version that a cluster shows."""
    status = ParameterStatus.decode(body)
    if status.name in SHOWN_VERSIONS:
        return ParameterStatus(status.name, SHOWN_VERSIONS[status.name]).encode()
    return frame(BackendType.PARAMETER_STATUS, body)


def error_response(
    body: bytes, *, refusal: Refusal | None, wording: Wording | None
) -> bytes:
    """Give an error as a cluster would: its words, no trace of our procedures.

    ``refusal`` is what the failure of `CANNOT_SUCCEED` stands for; ``wording``
    translates the position of an error into the text that the client sent.
    """
    error = ErrorResponse.decode(body)
    if refusal and error.sqlstate == UNDEFINED_COLUMN:
        ours = ErrorResponse.build("ERROR", refusal.sqlstate, refusal.message)
        return ours.encode()
    fields = error.fields
    if PROCEDURE_MARK in error.get("W"):
        fields = tuple(pair for pair in fields if pair[0] not in _INTERNAL_FIELDS)
    if wording and (position := error.get("P")):
        there = wording.client_position(int(position))
        moved = () if there is None else (("P", str(there)),)
        at = fields.index(("P", position))
        fields = (*fields[:at], *moved, *fields[at + 1 :])
    return ErrorResponse(fields).encode()


def command_complete(tag: str) -> bytes:
    """Give the end of a statement."""
    return frame(BackendType.COMMAND_COMPLETE, tag.encode() + b"\0")


def tag_of(answer: Frame) -> str:
    """Read the tag of a CommandComplete; other ends of a statement have none."""
    if answer.type != BackendType.COMMAND_COMPLETE:
        return ""
    return answer.body.rstrip(b"\0").decode()


def _values(body: bytes) -> list[bytes | None]:
    values: list[bytes | None] = []
    position = _COUNT.size
    for _ in range(_COUNT.unpack_from(body)[0]):
        (length,) = _LENGTH.unpack_from(body, position)
        position += _LENGTH.size
        values.append(body[position : position + length] if length >= 0 else None)
        position += max(0, length)
    return values


def _row(values: "list[bytes] | list[bytes | None]") -> bytes:
    parts = [_COUNT.pack(len(values))]
    for value in values:
        if value is None:
            parts.append(_LENGTH.pack(-1))
        else:
            parts += [_LENGTH.pack(len(value)), value]
    return b"".join(parts)
