"""What the proxy adds to a refused login. No I/O.

The cluster's own fields are passed on as they are; the words here go where it left
DETAIL or HINT empty. Its SQLSTATE does not tell the causes apart (08006 covers a
late token as well as a missing permission: observed on a cluster), so message and
HINT are looked at.
"""

from dsqlproxy.dsql import action_for
from dsqlproxy.errors import UpstreamRejected


def is_access_denied(error: UpstreamRejected) -> bool:
    """Tell whether the cluster did not take the token."""
    return "access denied" in error.message.lower()


def with_advice(error: UpstreamRejected, *, role: str) -> UpstreamRejected:
    """Give the same refusal, with what to do about it where the cluster left room."""
    said = " ".join(value for code, value in error.fields if code in "MDH")
    advice = _advice(said.lower(), role)
    has_hint = any(code == "H" for code, _ in error.fields)
    return UpstreamRejected(
        error.message,
        fields=error.fields,
        detail=_as_detail(advice, error) if has_hint else error.detail,
        hint="" if has_hint else advice,
    )


def _as_detail(advice: str, error: UpstreamRejected) -> str:
    """Put advice so that it reads as the explanation that a DETAIL is."""
    if not advice or advice.startswith("The "):
        return advice
    refused = "token" if is_access_denied(error) else "login"
    return f"The cluster refused the {refused}: {advice[0].lower()}{advice[1:]}"


def _advice(said: str, role: str) -> str:
    """Find the cause in what the cluster said; nothing for one that is unknown."""
    for needles, advice in _ADVICE:
        if any(needle.format(role=role.lower()) in said for needle in needles):
            return advice.format(role=role, action=action_for(role))
    return ""


# What the cluster says, in lower case, and what to do; the first that fits counts.
_ADVICE = (
    (
        ("signature expired", "signature not yet current"),
        "The token was signed for this login, so this machine's clock and the "
        "cluster's differ: check NTP, or raise `token_lifetime`.",
    ),
    (
        ("not authorized",),
        "Allow dsql:{action} on this cluster to the IAM identity whose credentials "
        "the proxy uses; a grant may take minutes to be felt.",
    ),
    (
        ("wrong user to action mapping",),
        "The token carries dsql:{action}, as role {role} needs; the cluster saw "
        "another user.",
    ),
    (
        ("iam authentication failed", "role {role} does not exist"),
        'Create the role with LOGIN, and as admin: AWS IAM GRANT "{role}" TO '
        "'<ARN of the IAM identity>'.",
    ),
    (
        ("access denied",),
        "Check that the credentials are valid, that their identity may "
        "dsql:{action}, and that `cluster` and `region` are right.",
    ),
    (
        ("waking up", "rate exceeded", "too many open"),
        "Try again in some seconds.",
    ),
)
