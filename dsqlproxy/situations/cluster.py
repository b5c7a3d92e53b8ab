"""What a refused login means, and what the proxy adds to it.

The cluster's own fields are passed on as they are; the words here go where it left
DETAIL or HINT empty. Its SQLSTATE does not tell the causes apart (08006 covers a
late token as well as a missing permission: observed on a cluster), so message and
HINT are looked at.
"""

from enum import StrEnum
from typing import NamedTuple

from dsqlproxy.dsql import action_for
from dsqlproxy.errors import DsqlProxyError, UpstreamRejected
from dsqlproxy.situations.restart import AFTERWARDS


class Cause(StrEnum):
    """Why a cluster refuses a login; the value is a word for the log."""

    SIGNATURE_EXPIRED = "signature_expired"
    """Too old, or from the future: a clock, or a token that waited too long."""
    CREDENTIALS_REFUSED = "credentials_refused"
    """What signed the token is expired, deactivated or unknown to AWS."""
    NOT_AUTHORIZED = "not_authorized"
    WRONG_ACTION = "wrong_action"
    UNKNOWN_ROLE = "unknown_role"
    UNKNOWN_CLUSTER = "unknown_cluster"
    DENIED = "denied"
    """Access denied, without a word about the reason."""
    WAKING_UP = "waking_up"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    RATE_EXCEEDED = "rate_exceeded"
    OTHER = "other"

    @property
    def is_passing(self) -> bool:
        """Whether the cluster would take the same login later."""
        return self in _PASSING

    @property
    def is_about_rights(self) -> bool:
        """Whether whoever logs in may not, until somebody changes that."""
        return self in _ABOUT_RIGHTS

    @property
    def is_about_the_token(self) -> bool:
        """Whether the cluster did not take the token."""
        return self in _ABOUT_THE_TOKEN


_PASSING = frozenset((Cause.WAKING_UP, Cause.TOO_MANY_CONNECTIONS, Cause.RATE_EXCEEDED))
_ABOUT_RIGHTS = frozenset(
    (
        Cause.CREDENTIALS_REFUSED,
        Cause.NOT_AUTHORIZED,
        Cause.WRONG_ACTION,
        Cause.UNKNOWN_ROLE,
        Cause.DENIED,
    )
)
_ABOUT_THE_TOKEN = frozenset(
    (
        Cause.SIGNATURE_EXPIRED,
        Cause.CREDENTIALS_REFUSED,
        Cause.NOT_AUTHORIZED,
        Cause.WRONG_ACTION,
        Cause.DENIED,
    )
)


class _Known(NamedTuple):
    """A cause, and what to do about it."""

    cause: Cause
    advice: str


def cause_of(error: UpstreamRejected) -> Cause:
    """Find the cause in what the cluster said."""
    known = _find(error)
    return known.cause if known else Cause.OTHER


def is_refusal(error: DsqlProxyError) -> bool:
    """Tell whether a login failed for want of usable credentials, or of rights.

    The SQLSTATE alone does not: "access denied" is 08006 (logs of drivers), an unknown
    role 08P01 (AWS's own tests).
    """
    if isinstance(error, UpstreamRejected):
        code = dict(error.fields).get("C", "")
        return code.startswith("28") or cause_of(error).is_about_rights
    return error.sqlstate.startswith("28")


def with_advice(error: UpstreamRejected, *, role: str) -> UpstreamRejected:
    """Give the same refusal, with what to do about it where the cluster left room."""
    known = _find(error)
    advice = "" if known is None else known.advice
    advice = advice.format(role=role, action=action_for(role))
    has_hint = any(code == "H" for code, _ in error.fields)
    return UpstreamRejected(
        error.message,
        fields=error.fields,
        detail=_as_detail(advice, cause_of(error)) if has_hint else error.detail,
        hint="" if has_hint else advice,
    )


def _as_detail(advice: str, cause: Cause) -> str:
    """Put advice so that it reads as the explanation that a DETAIL is."""
    if not advice or advice.startswith(("The ", "There ")):
        return advice
    refused = "token" if cause.is_about_the_token else "login"
    return f"The cluster refused the {refused}: {advice[0].lower()}{advice[1:]}"


def _find(error: UpstreamRejected) -> _Known | None:
    """Find what is known of a refusal, by how its MESSAGE and HINT begin.

    By the beginning only: further on stands what the client has chosen, the name of
    its role or the value of a parameter, and nobody may be held, or have the
    credentials put aside, by a role that is called "waking up".
    """
    message = _lower(error, "M")
    for beginning, known in _BY_MESSAGE:
        if message.startswith(beginning):
            return known
    if message.startswith("role ") and message.endswith(" does not exist"):
        return _UNKNOWN_ROLE
    if not message.startswith(_DENIED_MESSAGE):
        return None
    hint = _lower(error, "H")
    for beginning, known in _BY_HINT:
        if hint.startswith(beginning):
            return known
    return _NOT_AUTHORIZED if "not authorized" in hint else _DENIED


def _lower(error: UpstreamRejected, wanted: str) -> str:
    return next((value for code, value in error.fields if code == wanted), "").lower()


_BEHIND = _Known(
    Cause.SIGNATURE_EXPIRED,
    "The token was signed for this login, so this machine's clock is behind the "
    "cluster's by more than `token_lifetime`: set it (NTP).",
)
_AHEAD = _Known(
    Cause.SIGNATURE_EXPIRED,
    "The token is dated in the future, so this machine's clock is ahead of the "
    "cluster's: set it (NTP).",
)
_STALE = _Known(
    Cause.CREDENTIALS_REFUSED,
    "The AWS credentials that signed the token are not valid any more: log in "
    f"again (`aws sso login`) or renew the keys. {AFTERWARDS}",
)
_UNKNOWN_KEY = _Known(
    Cause.CREDENTIALS_REFUSED,
    "The access key that signed the token is not known to AWS: it was deleted, "
    "deactivated or mistyped, or its session token is not its own. Correct or renew "
    f"the keys, or log in again (`aws sso login`). {AFTERWARDS}",
)
_WRONG_SECRET = _Known(
    Cause.CREDENTIALS_REFUSED,
    "The secret access key does not belong to the access key id: correct it. "
    f"{AFTERWARDS}",
)
_UNKNOWN_CLUSTER = _Known(
    Cause.UNKNOWN_CLUSTER,
    "There is no such cluster, or it is in another Region: check `cluster` and "
    "`region`.",
)
_NOT_AUTHORIZED = _Known(
    Cause.NOT_AUTHORIZED,
    "Allow dsql:{action} on this cluster to the IAM identity whose credentials "
    "the proxy uses; a grant may take minutes to be felt.",
)
_WRONG_ACTION = _Known(
    Cause.WRONG_ACTION,
    "The token carries dsql:{action}, as role {role} needs; the cluster saw "
    "another user.",
)
_UNKNOWN_ROLE = _Known(
    Cause.UNKNOWN_ROLE,
    'Create the role with LOGIN, and as admin: AWS IAM GRANT "{role}" TO '
    "'<ARN of the IAM identity>'.",
)
_DENIED = _Known(
    Cause.DENIED,
    "Check that the credentials are valid, that their identity may "
    "dsql:{action}, and that `cluster` and `region` are right.",
)
_TRY_AGAIN = "Try again in some seconds."

# In lower case. Texts: AWS documentation ("Troubleshooting", quotas), and what users
# of node-postgres and pgx have seen; those of a security token are AWS's identity
# service's, and that a cluster passes them on as a HINT is inferred, as is how it
# says that there is no such cluster.
_REFUSED = "unable to accept connection, "
_DENIED_MESSAGE = _REFUSED + "access denied"
_BY_MESSAGE = (
    (_REFUSED + "waking up", _Known(Cause.WAKING_UP, _TRY_AGAIN)),
    (_REFUSED + "rate exceeded", _Known(Cause.RATE_EXCEEDED, _TRY_AGAIN)),
    (_REFUSED + "too many open", _Known(Cause.TOO_MANY_CONNECTIONS, _TRY_AGAIN)),
    ("iam authentication failed for user", _UNKNOWN_ROLE),
)
_BY_HINT = (
    ("signature expired", _BEHIND),
    ("signature not yet current", _AHEAD),
    ("the security token included in the request is invalid", _UNKNOWN_KEY),
    ("the security token included in the request", _STALE),
    ("the request signature we calculated does not match", _WRONG_SECRET),
    ("the cluster was not found", _UNKNOWN_CLUSTER),
    ("wrong user to action mapping", _WRONG_ACTION),
)
