"""The catalogue's rows of what clusters refuse, and of what the proxy adds."""

from typing import Final

from dsqlproxy.dsql import ADMIN_ROLE
from dsqlproxy.errors import UpstreamRejected
from dsqlproxy.situations.cluster import with_advice
from dsqlproxy.situations.situation import (
    CLUSTER_ID,
    IDENTITY,
    Section,
    Situation,
    Waits,
)

_ACCESS_DENIED: Final = "unable to accept connection, access denied"
_CLUSTER_ARN: Final = f"arn:aws:dsql:us-east-1:111122223333:cluster/{CLUSTER_ID}"


def refused(
    message: str, *, sqlstate: str = "08006", hint: str = "", role: str = ADMIN_ROLE
) -> UpstreamRejected:
    """Make what a client gets of a cluster's FATAL."""
    fields = [("S", "FATAL"), ("V", "FATAL"), ("C", sqlstate), ("M", message)]
    if hint:
        fields.append(("H", hint))
    return with_advice(UpstreamRejected(message, fields=tuple(fields)), role=role)


WAKING_UP: Final = refused(
    "unable to accept connection, waking up cluster, please retry later"
)
TOO_MANY_CONNECTIONS: Final = refused(
    "Unable to accept connection, too many open connections.", sqlstate="53300"
)
RATE_EXCEEDED: Final = refused(
    "Unable to accept connection, rate exceeded.", sqlstate="53400"
)

REFUSED: Final = Section(
    "The cluster refuses the login",
    "Message and SQLSTATE are the cluster's own, and so are DETAIL and HINT where it "
    "sends any; the proxy only fills in what the cluster leaves empty. (A SQLSTATE of "
    "08006 does not tell the causes apart; the HINT does.)",
    (
        Situation(
            key="signature-expired",
            title="The signature has expired",
            example=refused(
                _ACCESS_DENIED,
                hint="Signature expired: 20261122T120000Z is now earlier than "
                "20261122T121900Z (20261122T122000Z - 60 sec.)",
            ),
            mends="Set this machine's clock (`timedatectl set-ntp true`, or NTP of "
            "any kind). `dsqlproxy check` tells how far it is off. If it is right, and "
            "`token_lifetime` is a few seconds, raise that.",
            waits=Waits.SIGNED_ANEW,
        ),
        Situation(
            key="signature-not-yet-current",
            title="The signature is from the future",
            example=refused(
                _ACCESS_DENIED,
                hint="Signature not yet current: 20261122T122000Z is still later "
                "than 20261122T120500Z (20261122T120000Z + 5 min.)",
            ),
            mends="Set this machine's clock: it is ahead.",
            waits=Waits.SIGNED_ANEW,
        ),
        Situation(
            key="credentials-refused",
            title="The cluster takes the credentials for expired",
            example=refused(
                _ACCESS_DENIED,
                hint="The security token included in the request is expired",
            ),
            mends="`aws sso login`, or put new keys where the old ones were. The "
            "proxy looks for others by itself and goes on with them.",
            waits=Waits.HELD,
        ),
        Situation(
            key="access-key-unknown",
            title="The access key is not known to AWS",
            example=refused(
                _ACCESS_DENIED,
                hint="The security token included in the request is invalid.",
            ),
            mends="Keys that exist and are active, all of one set: access key id, "
            "secret access key, and the session token if there is one.",
            waits=Waits.HELD,
        ),
        Situation(
            key="secret-key-wrong",
            title="The secret access key is wrong",
            example=refused(
                _ACCESS_DENIED,
                hint="The request signature we calculated does not match the "
                "signature you provided. Check your AWS Secret Access Key and signing "
                "method.",
            ),
            mends="The secret access key that was given out with the access key id "
            "(`aws configure`); if it is lost, a new pair.",
            waits=Waits.HELD,
        ),
        Situation(
            key="unknown-cluster",
            title="The cluster does not exist, or is in another Region",
            example=refused(_ACCESS_DENIED, hint="The cluster was not found."),
            mends="The right `cluster`; its endpoint and Region are shown by `aws dsql "
            "get-cluster` and the AWS console.",
        ),
        Situation(
            key="not-authorized",
            title="The IAM identity may not connect",
            example=refused(
                _ACCESS_DENIED,
                hint=f"User: {IDENTITY} is not authorized to perform: "
                f"dsql:DbConnectAdmin on resource: {_CLUSTER_ARN} because no "
                "identity-based policy allows the dsql:DbConnectAdmin action",
            ),
            mends="Allow `dsql:DbConnectAdmin` (for the role `admin`) or "
            "`dsql:DbConnect` (for all others) on the cluster's ARN. "
            "`dsqlproxy check` prints the statement for the policy.",
        ),
        Situation(
            key="wrong-action",
            title="The token is for another user",
            example=refused(
                _ACCESS_DENIED,
                hint="Wrong user to action mapping. user: admin, action: DbConnect",
            ),
            mends="Nothing of yours should lead here; please report it.",
        ),
        Situation(
            key="access-denied",
            title="Access is denied, and the cluster does not say why",
            example=refused(_ACCESS_DENIED),
            mends="`dsqlproxy check` tells which of the three it is.",
        ),
        Situation(
            key="unknown-role",
            title="The database role does not exist",
            example=refused(
                "Role reader does not exist", sqlstate="08P01", role="reader"
            ),
            mends="Connect as another user (psql: `-U`), or, as `admin`: "
            "`CREATE ROLE reader WITH LOGIN;` and the `AWS IAM GRANT` of the hint.",
        ),
        Situation(
            key="role-not-granted",
            title="The database role is not granted to the IAM identity",
            example=refused(
                'IAM authentication failed for user "reader"',
                sqlstate="08P01",
                role="reader",
            ),
            mends="The `AWS IAM GRANT` of the hint, as `admin`; `dsqlproxy check` "
            "prints it with the ARN filled in.",
        ),
        Situation(
            key="parameter-refused",
            title="A startup parameter is not supported",
            example=refused(
                'setting configuration parameter "work_mem" not supported',
                sqlstate="0A000",
            ),
            mends="It only comes with `unsupported_parameters: pass`; the default, "
            "`drop`, leaves such parameters out and warns.",
        ),
        Situation(
            key="waking-up",
            title="The cluster is waking up",
            example=WAKING_UP,
            mends="Time: some seconds. Raise `hold_timeout` if they are more.",
            waits=Waits.HELD,
        ),
        Situation(
            key="too-many-connections",
            title="The cluster has too many connections",
            example=TOO_MANY_CONNECTIONS,
            mends="Close sessions (`dsqlproxy status` lists those of one proxy), or "
            "ask AWS for a higher quota.",
            waits=Waits.HELD,
        ),
        Situation(
            key="rate-exceeded",
            title="The cluster has had too many logins",
            example=RATE_EXCEEDED,
            mends="Keep connections open. With several proxies on one cluster, give "
            "each its part of the rate in `max_connect_rate`.",
            waits=Waits.HELD,
        ),
    ),
)
