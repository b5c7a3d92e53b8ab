"""What the cluster says when it refuses a connection, in its own words.

Each FATAL says how its text and SQLSTATE are known. An SQLSTATE that nobody has
published is inferred from its neighbours: texts that begin with "unable to accept
connection" were seen with 08006, and with 08P01 where the connection was not even
looked at.
"""

from typing import Final

from dsqlproxy.pgproto.messages import ErrorResponse


class LoginRefused(Exception):
    """The login ends here; the client gets ``response``, then the connection ends."""

    def __init__(self, response: ErrorResponse) -> None:
        super().__init__(response.message)
        self.response = response


class LoginAbandoned(Exception):
    """The login ends without a word: the peer left, or deserves none."""


def fatal(sqlstate: str, message: str, *, hint: str = "") -> ErrorResponse:
    """Build a FATAL ErrorResponse."""
    return ErrorResponse.build("FATAL", sqlstate, message, hint=hint)


# Text: an engineer's article on direct TLS; SQLSTATE: asserted by the public tests
# of AWS's connectors, which run against a cluster.
TLS_MISSING: Final = fatal(
    "08P01",
    "unable to accept connection, SSL is mandatory. AWS Authentication is required.",
)
# Text: AWS documentation (troubleshooting); SQLSTATE inferred.
SNI_MISSING: Final = fatal("08P01", "unable to accept connection, sni was not received")
# Text: AWS documentation (troubleshooting); SQLSTATE inferred.
WAKING_UP: Final = fatal(
    "08006", "unable to accept connection, waking up cluster, please retry later"
)
# Text and SQLSTATE: AWS documentation (quotas).
TOO_MANY_CONNECTIONS: Final = fatal(
    "53300", "Unable to accept connection, too many open connections."
)
RATE_EXCEEDED: Final = fatal("53400", "Unable to accept connection, rate exceeded.")
# Text: seen by a user whose URL had mangled the token; SQLSTATE as PostgreSQL's.
INVALID_PASSWORD_PACKET: Final = fatal("08P01", "invalid password packet size")
# PostgreSQL's own (postmaster.c).
NO_USER: Final = fatal("28000", "no PostgreSQL user name specified in startup packet")
NOT_A_PASSWORD: Final = fatal("08P01", "expected password response")
DATA_BEFORE_TLS: Final = fatal("08P01", "received unencrypted data after SSL request")

# HINT of AWS's identity service for a key or session that is no longer valid;
# that it reaches the client this way is inferred from the other hints.
EXPIRED_CREDENTIALS_HINT: Final = (
    "The security token included in the request is expired"
)
UNKNOWN_CLUSTER_HINT: Final = "The cluster was not found."  # inferred


def access_denied(hint: str) -> ErrorResponse:
    """Refuse a token; seen on clusters by users of node-postgres and pgx."""
    return fatal("08006", "unable to accept connection, access denied", hint=hint)


def not_authorized(principal_arn: str, action: str, resource: str) -> str:
    """Word the hint for a principal whose policy lacks the action."""
    return (
        f"User: {principal_arn} is not authorized to perform: dsql:{action} "
        f"on resource: {resource} because no identity-based policy allows the "
        f"dsql:{action} action"
    )


def unknown_role(role: str) -> ErrorResponse:
    """Refuse a role that does not exist.

    Text: AWS documentation (troubleshooting); SQLSTATE: asserted by the public tests
    of AWS's connectors (nonexistent_user).
    """
    return fatal("08P01", f"Role {role} does not exist")


def unmapped_role(role: str) -> ErrorResponse:
    """Refuse a role that no ``AWS IAM GRANT`` gives to the principal.

    Text: AWS documentation (troubleshooting); SQLSTATE inferred from the former.
    """
    return fatal("08P01", f'IAM authentication failed for user "{role}"')


def unknown_database(database: str) -> ErrorResponse:
    """Refuse a database other than the one there is; inferred: PostgreSQL's own."""
    return fatal("3D000", f'database "{database}" does not exist')


def unsupported_parameter(name: str) -> ErrorResponse:
    """Refuse a startup parameter; observed on a cluster."""
    return fatal("0A000", f'setting configuration parameter "{name}" not supported')


def commanded(sqlstate: str) -> ErrorResponse:
    """End a session because someone ordered it; the text is PostgreSQL's for 57P01."""
    if sqlstate == "57P01":
        message = "terminating connection due to administrator command"
    else:
        message = f"terminating connection with {sqlstate} on command"
    return fatal(sqlstate, message)
