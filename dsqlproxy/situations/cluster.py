"""What a refused login means, and what the proxy adds to it.

The cluster's own fields are passed on as they are; the words here go where it left
DETAIL or HINT empty. Its SQLSTATE does not tell the causes apart (08006 covers a
late token as well as a missing permission: observed on a cluster), so message and
HINT are looked at.
"""

from enum import StrEnum
from typing import NamedTuple

from dsqlproxy.dsql import action_for
from dsqlproxy.errors import UpstreamRejected


class Cause(StrEnum):
    """Why a cluster refuses a login; the value is a word for the log."""

    SIGNATURE_EXPIRED = "signature_expired"
    """Too old, or from the future: a clock, or a token that waited too long."""
    CREDENTIALS_REFUSED = "credentials_refused"
    """What signed the token is expired, deactivated or unknown to AWS."""
    NOT_AUTHORIZED = "not_authorized"
    WRONG_ACTION = "wrong_action"
    UNKNOWN_ROLE = "unknown_role"
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
    def is_about_the_token(self) -> bool:
        """Whether the cluster did not take the token."""
        return self in _ABOUT_THE_TOKEN


_PASSING = frozenset((Cause.WAKING_UP, Cause.TOO_MANY_CONNECTIONS, Cause.RATE_EXCEEDED))
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
    """What the cluster says, in lower case, and what to do about it."""

    cause: Cause
    needles: tuple[str, ...]
    advice: str


def cause_of(error: UpstreamRejected) -> Cause:
    """Find the cause in what the cluster said."""
    known = _find(error)
    return known.cause if known else Cause.OTHER


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
    if not advice or advice.startswith("The "):
        return advice
    refused = "token" if cause.is_about_the_token else "login"
    return f"The cluster refused the {refused}: {advice[0].lower()}{advice[1:]}"


def _find(error: UpstreamRejected) -> _Known | None:
    said = " ".join(value for code, value in error.fields if code in "MDH").lower()
    for known in _KNOWN:
        if any(needle in said for needle in known.needles):
            return known
    if said.startswith("role ") and "does not exist" in said:
        return _UNKNOWN_ROLE
    return None


_UNKNOWN_ROLE = _Known(
    Cause.UNKNOWN_ROLE,
    ("iam authentication failed",),
    'Create the role with LOGIN, and as admin: AWS IAM GRANT "{role}" TO '
    "'<ARN of the IAM identity>'.",
)

_TRY_AGAIN = "Try again in some seconds."

# The first that fits counts. Texts: AWS documentation ("Troubleshooting", quotas),
# and what users of node-postgres and pgx have seen; those of a security token are
# AWS's identity service's, and that a cluster passes them on is inferred.
_KNOWN = (
    _Known(
        Cause.SIGNATURE_EXPIRED,
        ("signature expired", "signature not yet current"),
        "The token was signed for this login, so this machine's clock and the "
        "cluster's differ: check NTP, or raise `token_lifetime`.",
    ),
    _Known(
        Cause.CREDENTIALS_REFUSED,
        (
            "security token included in the request",
            "request signature we calculated does not match",
        ),
        "The AWS credentials that signed the token are not valid any more: log in "
        "again (`aws sso login`) or renew the keys; the proxy takes up the change.",
    ),
    _Known(
        Cause.NOT_AUTHORIZED,
        ("not authorized",),
        "Allow dsql:{action} on this cluster to the IAM identity whose credentials "
        "the proxy uses; a grant may take minutes to be felt.",
    ),
    _Known(
        Cause.WRONG_ACTION,
        ("wrong user to action mapping",),
        "The token carries dsql:{action}, as role {role} needs; the cluster saw "
        "another user.",
    ),
    _UNKNOWN_ROLE,
    _Known(
        Cause.DENIED,
        ("access denied",),
        "Check that the credentials are valid, that their identity may "
        "dsql:{action}, and that `cluster` and `region` are right.",
    ),
    _Known(Cause.WAKING_UP, ("waking up",), _TRY_AGAIN),
    _Known(Cause.RATE_EXCEEDED, ("rate exceeded",), _TRY_AGAIN),
    _Known(Cause.TOO_MANY_CONNECTIONS, ("too many open",), _TRY_AGAIN),
)
