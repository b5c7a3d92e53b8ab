"""What to paste, where a sentence alone would send its reader to a manual.

The statement of an IAM policy, the SQL that lets an IAM identity be a role, the
command that sets a clock. Forms: AWS documentation ("Authentication and
authorization for Aurora DSQL", "Using database roles and IAM authentication").
"""

import json
import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from dsqlproxy.dsql import action_for
from dsqlproxy.endpoint import Endpoint
from dsqlproxy.errors import UpstreamRejected
from dsqlproxy.situations.cluster import Cause, cause_of

UNKNOWN_IDENTITY: Final = "<ARN of the IAM identity>"

_CLUSTER_ARN: Final = re.compile(r"arn:[a-z-]+:dsql:[a-z0-9-]+:[0-9]{12}:cluster/\w+")
_ASSUMED_ROLE: Final = re.compile(
    r"arn:(?P<partition>[a-z-]+):sts::(?P<account>[0-9]{12})"
    r":assumed-role/(?P<name>[^/]+)/.+"
)
_SSO_ROLE_PREFIX: Final = "AWSReservedSSO_"
_SSO_PATH: Final = "aws-reserved/sso.amazonaws.com/"


class Remedy(NamedTuple):
    """Something to copy, and what it is for."""

    purpose: str
    text: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong, in the words that a client would be told, and what mends it."""

    message: str
    code: str = ""
    """The SQLSTATE that a client would see; empty where none would see anything."""
    detail: str = ""
    hint: str = ""
    remedy: Remedy | None = None
    quoted: tuple[str, ...] = ()
    """Which of detail and hint are the cluster's own words."""

    @property
    def explanation(self) -> tuple[str, ...]:
        """Give detail and hint in the order of reading: theirs, then our advice."""
        theirs = tuple(f"The cluster says: {text}" for text in self.quoted)
        ours = (self.detail, self.hint)
        return theirs + tuple(each for each in ours if each not in ("", *self.quoted))

    def as_dict(self) -> dict[str, str]:
        """Give the JSON form."""
        given = {
            "code": self.code,
            "message": self.message,
            "detail": self.detail,
            "hint": self.hint,
        }
        return given if self.remedy is None else {**given, "remedy": self.remedy.text}


def remedy_for(
    error: UpstreamRejected, *, role: str, cluster_arn: str, identity_arn: str | None
) -> Remedy | None:
    """Give what grants a login that the cluster refused, if a grant is missing."""
    match cause_of(error):
        case Cause.NOT_AUTHORIZED | Cause.DENIED:
            return allow(role, cluster_arn=cluster_arn)
        case Cause.UNKNOWN_ROLE:
            exists = "does not exist" not in error.message
            return grant(role, identity_arn=identity_arn, exists=exists)
        case _:
            return None


def allow(role: str, *, cluster_arn: str) -> Remedy:
    """Give the statement of a policy that lets its identity log in as ``role``."""
    statement = {
        "Effect": "Allow",
        "Action": f"dsql:{action_for(role)}",
        "Resource": cluster_arn,
    }
    return Remedy(
        "The statement to add to the IAM policy of the identity:",
        json.dumps(statement, indent=2),
    )


def grant(role: str, *, identity_arn: str | None, exists: bool) -> Remedy:
    """Give the SQL that lets an IAM identity log in as ``role``."""
    arn = identity_arn or UNKNOWN_IDENTITY
    name = '"' + role.replace('"', '""') + '"'
    create = "" if exists else f"CREATE ROLE {name} WITH LOGIN;\n"
    quoted_arn = "'" + arn.replace("'", "''") + "'"
    purpose = "To be run as admin:"
    if _SSO_PATH in arn:
        purpose = (
            "To be run as admin, with the ARN that `aws iam get-role --role-name "
            f"{arn.rpartition('/')[2]}` shows, should it be another:"
        )
    return Remedy(purpose, f"{create}AWS IAM GRANT {name} TO {quoted_arn};")


def set_clock() -> Remedy:
    """Give the commands that set this machine's clock."""
    return Remedy(
        "To set this machine's clock:",
        "sudo timedatectl set-ntp true           # Linux with systemd\n"
        "sudo sntp -sS time.apple.com            # macOS",
    )


def cluster_arn(endpoint: Endpoint, *, named: str, error: UpstreamRejected) -> str:
    """Give the cluster's ARN; its account is an asterisk where nobody has said it.

    ``named`` is what the configuration calls the cluster. The cluster's own words
    may have the ARN, too.
    """
    said = (named, *(value for _, value in error.fields))
    for text in said:
        for arn in _CLUSTER_ARN.findall(text):
            if arn.endswith(f"/{endpoint.cluster_id}"):
                return str(arn)
    return f"arn:aws:dsql:{endpoint.region}:*:cluster/{endpoint.cluster_id}"


def grantable_arn(caller_arn: str) -> str:
    """Give the ARN that a grant takes for a caller: of a session, its role's.

    AWS documentation, "IAM identifiers": the ARN of a session leaves out the path of
    its role. Those of IAM Identity Center have one by rule, with the Region of the
    latter in it, except for us-east-1 (observed by its users); which one that is, the
    session does not tell.
    """
    session = _ASSUMED_ROLE.fullmatch(caller_arn)
    if session is None:
        return caller_arn
    name = session["name"]
    path = _SSO_PATH if name.startswith(_SSO_ROLE_PREFIX) else ""
    return f"arn:{session['partition']}:iam::{session['account']}:role/{path}{name}"
