"""The catalogue's rows of sessions: refused, held in vain, ended."""

from typing import Final

from dsqlproxy.situations import network, sessions, startup
from dsqlproxy.situations.sessions import UnderWay
from dsqlproxy.situations.situation import (
    ADDRESS,
    NAME,
    LogEvent,
    Moment,
    Section,
    Situation,
    Waits,
)

_BY_RAISING: Final = "Raise `max_sessions`, or close sessions: `dsqlproxy status`."

REFUSED_BY_PROXY: Final = Section(
    "The proxy refuses the session",
    "Before it has asked anything of the cluster.",
    (
        Situation(
            key="no-user",
            title="The client names no user",
            example=sessions.no_user(()),
            mends="psql: `-U admin`, or `PGUSER`; drivers: `user`. (psql and libpq "
            "fill in the name of the operating system's user.)",
            log_event=LogEvent.REFUSED,
        ),
        Situation(
            key="role-not-served",
            title="The listener does not serve the role",
            example=sessions.role_not_served("intruder", ("admin", "reader")),
            mends="Connect as one of the roles named, or add the role to `roles`.",
            log_event=LogEvent.REFUSED,
        ),
        Situation(
            key="proxy-full",
            title="The listener has as many sessions as it may",
            example=sessions.too_many_sessions(1000),
            mends=_BY_RAISING,
            log_event=LogEvent.REFUSED,
        ),
        Situation(
            key="internal-error",
            title="The proxy has a bug",
            example=sessions.internal_error("5f3a9c01"),
            mends="Report it, with the traceback that the log has for this session.",
            log_event=LogEvent.FAILED,
        ),
        Situation(
            key="parameters-left-out",
            title="Startup parameters are left out",
            remark=startup.parameters_left_out(("work_mem",)),
            mends="Nothing is broken. Remove the parameter from `PGOPTIONS`, or from "
            "the driver's options, to be rid of the warning.",
            moment=Moment.WARNING,
            log_event=LogEvent.NONE,
        ),
    ),
)

ENDED: Final = Section(
    "A living session ends, or a statement of it fails",
    "psql shows the proxy's error first and adds what it says of every closed "
    "connection. (psycopg2 and pg8000 say only the latter, of any server that ends a "
    "session within a statement; the log has the rest.) Nothing that a client sent is "
    "ever sent twice.",
    (
        Situation(
            key="lost-with-a-statement",
            title="The cluster was lost while a statement ran",
            example=sessions.upstream_lost(UnderWay.STATEMENT),
            mends="Reconnect. Whether the statement took effect, only its data can "
            "tell; a SELECT may simply be repeated.",
            moment=Moment.SESSION,
            log_event=LogEvent.LOST,
        ),
        Situation(
            key="lost-with-a-commit",
            title="The cluster was lost, perhaps while it committed",
            example=sessions.upstream_lost(UnderWay.COMMIT),
            mends="Reconnect and look whether the work is there before repeating "
            "it: COMMIT, or a statement that commits by itself, was under way.",
            moment=Moment.SESSION,
            log_event=LogEvent.LOST,
        ),
        Situation(
            key="lost-in-a-transaction",
            title="The cluster was lost within a transaction",
            example=sessions.upstream_lost(UnderWay.TRANSACTION),
            mends="Reconnect and repeat the transaction: it was rolled back.",
            moment=Moment.SESSION,
            log_event=LogEvent.LOST,
        ),
        Situation(
            key="limit-in-a-transaction",
            title="The cluster's session limit came within a transaction",
            example=sessions.upstream_lost(UnderWay.TRANSACTION, is_at_limit=True),
            mends="Reconnect and repeat the transaction. The proxy moves a session "
            "only between transactions; this one was open when the hour was over.",
            waits=Waits.SWAPPED,
            moment=Moment.SESSION,
            log_event=LogEvent.LOST,
        ),
        Situation(
            key="lost-and-not-replaced",
            title="The cluster was lost, and no other connection was to be had",
            example=sessions.upstream_lost(
                UnderWay.NOTHING,
                not_replaced=str(
                    network.not_connected(NAME, [f"{ADDRESS}: Connection refused"])
                ),
                is_unsent=True,
            ),
            mends="Reconnect when what the DETAIL names is mended. The last "
            "statement was not sent and may be repeated.",
            waits=Waits.REPLACED,
            moment=Moment.SESSION,
            log_event=LogEvent.LOST,
        ),
        Situation(
            key="lost-for-a-fault-of-the-client",
            title="The cluster hung up on a client that broke the protocol",
            example=sessions.upstream_lost(
                UnderWay.NOTHING,
                client_fault="unexpected length of a message (0x51, 0 bytes)",
            ),
            mends="Use another version of the driver; this is a bug of it.",
            moment=Moment.SESSION,
            log_event=LogEvent.LOST,
        ),
        Situation(
            key="session-limit",
            title="A session that cannot be moved has come to the cluster's limit",
            example=sessions.session_limit("the session listens to notifications"),
            mends="Reconnect. The DETAIL names what keeps a session where it is; "
            "[Sessions without end](swap.md) lists all such reasons.",
            waits=Waits.SWAPPED,
            moment=Moment.SESSION,
            log_event=LogEvent.ENDING,
        ),
        Situation(
            key="shutting-down",
            title="The proxy shuts down",
            example=sessions.shutting_down(),
            mends="Reconnect when the proxy is up again. It waits `drain_timeout` "
            "for transactions to end.",
            moment=Moment.SESSION,
            log_event=LogEvent.ENDING,
        ),
        Situation(
            key="statement-too-large",
            title="A statement is larger than 10 MiB",
            example=sessions.statement_too_large(10_485_775),
            mends="Smaller statements: several INSERTs, or COPY, whose data goes in "
            "many messages.",
            moment=Moment.STATEMENT,
            log_event=LogEvent.NONE,
        ),
        Situation(
            key="message-too-large",
            title="A message is larger than 10 MiB, where the session cannot go on",
            example=sessions.message_too_large(),
            mends="As above. Within a transaction, or with a prepared statement, the "
            "session ends, since the cluster would close it without a word.",
            moment=Moment.SESSION,
            log_event=LogEvent.ENDING,
        ),
    ),
)
