"""One way in which things go wrong, as the catalogue describes it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from dsqlproxy.dsql import PORT
from dsqlproxy.errors import DsqlProxyError
from dsqlproxy.situations.holding import Remark


class Moment(StrEnum):
    """When it happens, and so what is left of the client's session."""

    START = "the proxy does not start (exit code 2)"
    LOGIN = "the client gets no session"
    SESSION = "the session ends"
    STATEMENT = "the statement fails, the session goes on"
    SILENCE = "the connection is closed without a word"
    WARNING = "the session begins, with a warning"


class Waits(StrEnum):
    """What the proxy itself does about it before its client hears of it."""

    NOT = "no"
    HELD = (
        "yes: a client is [held](#held-for-credentials) for up to `hold_timeout` and "
        "goes on as soon as the cause is gone; at the end of that time it gets this "
        "error"
    )
    SIGNED_ANEW = "one new token is tried at once"
    REPLACED = (
        "yes: a connection that is lost while nothing runs is replaced without the "
        "client noticing; its next statement waits for that up to 30 s"
    )
    SWAPPED = (
        "yes: sessions are moved to a new connection before the limit; this one could "
        "not be"
    )


class LogEvent(StrEnum):
    """The line of the log that tells of it."""

    LOGIN_FAILED = "login failed"
    REFUSED = "session refused"
    LOST = "upstream lost"
    ENDING = "ending"
    FAILED = "session failed"
    LEFT = "client left"
    NONE = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What happened, what its client is told, and what mends it.

    ``example`` is made by the function that makes the real one, with sample
    arguments; None where the client is told nothing, of which ``psql`` may be what
    libpq says by itself. ``remark`` is what a client that is held is told before it.
    ``mends`` and ``waits`` are Markdown.
    """

    key: str
    title: str
    example: DsqlProxyError | None = None
    mends: str
    waits: Waits = Waits.NOT
    log_event: LogEvent = LogEvent.LOGIN_FAILED
    moment: Moment = Moment.LOGIN
    remark: Remark | None = None
    psql: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """Situations of one kind."""

    title: str
    introduction: str
    situations: tuple[Situation, ...]


# The samples. Names and numbers are those that AWS and IANA keep for examples.
CLUSTER_ID: Final = "4iabtxwqgmtxqz4ymbuovovmyy"
CLUSTER: Final = f"{CLUSTER_ID}.dsql.us-east-1.on.aws"
NAME: Final = f"{CLUSTER}:{PORT}"
"""What is dialled, as errors name it."""
ADDRESS: Final = f"203.0.113.7:{PORT}"
IDENTITY: Final = "arn:aws:iam::111122223333:role/developer"
PROFILE: Final = "dev"
