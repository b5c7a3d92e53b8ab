"""The catalogue's rows of what `network` says."""

from typing import Final

from dsqlproxy.situations import network
from dsqlproxy.situations.network import Flaw, Phase
from dsqlproxy.situations.situation import (
    ADDRESS,
    CLUSTER,
    NAME,
    Section,
    Situation,
)

_SECONDS: Final = 10.0

NETWORK: Final = Section(
    "The cluster cannot be reached",
    "DNS, TCP, TLS, or time. `dsqlproxy check` goes the same way step by step, with "
    "the time of each. Nothing is tried again: the client may, at once.",
    (
        Situation(
            key="unknown-host",
            title="The cluster's name does not exist",
            example=network.not_resolved(CLUSTER, "the name does not exist"),
            mends="Compare `cluster` with the endpoint in the AWS console. A cluster "
            "that was deleted has no name any more.",
        ),
        Situation(
            key="resolving-too-slow",
            title="The name server does not answer",
            example=network.too_late(NAME, seconds=_SECONDS, phase=Phase.RESOLVE),
            mends="Mend this machine's DNS; a VPN that has just come up or gone down "
            "is a usual cause.",
        ),
        Situation(
            key="connection-refused",
            title="Nobody listens there",
            example=network.not_connected(NAME, [f"{ADDRESS}: Connection refused"]),
            mends="A cluster always listens: `connect_address` names another "
            "machine, the tunnel behind it is down, or a firewall refuses.",
        ),
        Situation(
            key="connecting-too-slow",
            title="Nobody answers to TCP",
            example=network.too_late(NAME, seconds=_SECONDS, phase=Phase.CONNECT),
            mends="Let TCP to port 5432 out: security group, network ACL, firewall, "
            "or a route (an IPv6 address where there is no way for IPv6).",
        ),
        Situation(
            key="tls-too-slow",
            title="TLS does not get on",
            example=network.too_late(NAME, seconds=_SECONDS, phase=Phase.SECURE),
            mends="Find out who listens there; for a firewall that looks into TLS, "
            "`tls_negotiation: postgres`.",
        ),
        Situation(
            key="no-tls",
            title="The peer does not speak TLS",
            example=network.no_tls(
                NAME,
                [
                    "direct TLS: the peer closed the connection",
                    "SSLRequest: the peer offers no TLS",
                ],
            ),
            mends="Set `cluster`, or `connect_address`, to a cluster of Aurora DSQL; "
            "nothing else gets a token.",
        ),
        Situation(
            key="error-before-tls",
            title="The peer answers the request for TLS with an error",
            example=network.error_before_tls(CLUSTER),
            mends="As above. What the peer said is not repeated, since anybody on "
            "the way could have said it (CVE-2024-10977).",
        ),
        Situation(
            key="certificate-of-another-name",
            title="The certificate is for another name",
            example=network.not_verified(
                CLUSTER,
                reason=f"Hostname mismatch, certificate is not valid for '{CLUSTER}'.",
                flaw=Flaw.NAME,
            ),
            mends="Correct `connect_address`; or, for a private name of the cluster "
            "(PrivateLink), set `server_name`.",
        ),
        Situation(
            key="certificate-of-unknown-issuer",
            title="The certificate's issuer is not trusted",
            example=network.not_verified(
                CLUSTER,
                reason="unable to get local issuer certificate",
                flaw=Flaw.TRUST,
            ),
            mends="Install the system's certificates (`ca-certificates`), or set "
            "`ca_file`. A company's proxy that opens TLS has an authority of its own.",
        ),
        Situation(
            key="certificate-expired",
            title="The certificate has expired",
            example=network.not_verified(
                CLUSTER, reason="certificate has expired", flaw=Flaw.TIME
            ),
            mends="Set this machine's clock; AWS renews its certificates in time.",
        ),
        Situation(
            key="login-too-slow",
            title="The cluster takes too long to log in",
            example=network.too_late(NAME, seconds=_SECONDS, phase=Phase.LOG_IN),
            mends="Connect again; where it happens often, raise `connect_timeout`.",
        ),
        Situation(
            key="closed-during-login",
            title="The cluster hangs up during the login",
            example=network.closed_during_login(NAME),
            mends="Connect again; AWS's health dashboard tells of larger trouble.",
        ),
        Situation(
            key="other-authentication",
            title="The peer wants another authentication",
            example=network.other_authentication("md5 password"),
            mends="Set `cluster` or `connect_address` to a cluster of Aurora DSQL: "
            "this is some other PostgreSQL server. It has got no token.",
        ),
        Situation(
            key="not-a-cluster",
            title="The peer does not speak as a cluster does",
            example=network.not_a_login("it sent an unexpected message: 'D'"),
            mends="As above; if it is a cluster, please report it.",
        ),
    ),
)
