"""What fails between the proxy and a cluster before the cluster has a say.

DNS, TCP, TLS, time: `UpstreamUnavailable` (08001), always with the host, what failed
and what to try. And a peer that answers, but not as a cluster does: `ProtocolError`.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from dsqlproxy.errors import ProtocolError, UpstreamUnavailable


class Phase(StrEnum):
    """How far an attempt has come; the value follows "while"."""

    RESOLVE = "resolving the host name"
    CONNECT = "connecting"
    SECURE = "beginning TLS"
    SIGN = "signing the token"
    LOG_IN = "logging in"
    CANCEL = "cancelling"


_LET_TCP_OUT: Final = (
    "Check that the network, a firewall or a security group lets TCP connections to "
    "this port out; with `connect_address`, that what it leads to (a tunnel) is up."
)
_IS_IT_A_CLUSTER: Final = (
    "Is this the address of an Aurora DSQL cluster? Check `cluster`, "
    "`connect_address` and `tls_negotiation`."
)
_LATE_HINTS: Final = {
    Phase.RESOLVE: "Check this machine's DNS.",
    Phase.CONNECT: _LET_TCP_OUT,
    Phase.SECURE: "Something listens there but does not speak TLS, or a firewall "
    "holds the handshake back; try `tls_negotiation: postgres`.",
    Phase.SIGN: "The AWS credentials take too long: `dsqlproxy token` shows why.",
    Phase.LOG_IN: "A cluster that was idle for long needs time to wake up: try "
    "again, or raise `connect_timeout`.",
    Phase.CANCEL: "The query may have ended by itself.",
}


def too_late(name: str, *, seconds: float, phase: Phase) -> UpstreamUnavailable:
    """Say in which phase the time limit over an attempt ended."""
    return UpstreamUnavailable(
        f"{name} did not answer in time",
        detail=f"The time limit of {seconds:g} s ended while {phase.value}.",
        hint=_LATE_HINTS[phase],
    )


# -- DNS and TCP -----------------------------------------------------------------------


def not_resolved(host: str, reason: str) -> UpstreamUnavailable:
    """Say that the resolver gave no address; ``reason`` is a sentence in lower case."""
    return UpstreamUnavailable(
        f'could not resolve host name "{host}"',
        detail=f"{reason[0].upper()}{reason[1:]}.",
        hint="Check the cluster's endpoint and Region, and this machine's DNS.",
    )


def not_connected(name: str, failures: Sequence[str]) -> UpstreamUnavailable:
    """Say why no address of a name could be connected to."""
    return UpstreamUnavailable(
        f"could not connect to {name}",
        detail="; ".join(failures) or "The name has no address.",
        hint=_LET_TCP_OUT,
    )


# -- TLS -------------------------------------------------------------------------------


class Flaw(StrEnum):
    """What is wrong with a certificate; the value is what may mend it."""

    NAME = (
        "Check `cluster` and `region` first; set `server_name` to a name in the "
        "certificate only if the peer is right."
    )
    TIME = "Check this machine's clock; if it is right, the certificate is not."
    TRUST = (
        "Set `ca_file` to the PEM file of the authority that issued it, or add "
        "that to the system's store. Amazon's are at amazontrust.com."
    )


def not_verified(server_name: str, *, reason: str, flaw: Flaw) -> UpstreamUnavailable:
    """Say which name was wanted, what OpenSSL found, and what may mend it."""
    return UpstreamUnavailable(
        f'the certificate of the cluster could not be verified for "{server_name}"',
        detail=f"OpenSSL says: {reason.rstrip('.')}.",
        hint=flaw.value,
    )


def no_tls(name: str, refusals: Sequence[str]) -> UpstreamUnavailable:
    """Say why TLS did not begin, in any of the ways that were tried."""
    return UpstreamUnavailable(
        f"could not begin TLS with {name}",
        detail=f"{'; '.join(refusals)}.",
        hint=_IS_IT_A_CLUSTER,
    )


def error_before_tls(server_name: str) -> UpstreamUnavailable:
    """Say that there was an error, in words that are none of its own."""
    return UpstreamUnavailable(
        f'could not begin TLS with the cluster "{server_name}"',
        detail="The peer answered the request for TLS with an error, which is not "
        "shown because its sender is not verified.",
        hint=_IS_IT_A_CLUSTER,
    )


# -- the conversation ------------------------------------------------------------------


def closed_during_login(name: str) -> UpstreamUnavailable:
    """Say that the login ended without a word."""
    return UpstreamUnavailable(
        f"{name} closed the connection during login",
        hint="Try again; if it stays so, check the cluster's status.",
    )


_NOT_A_CLUSTER: Final = (
    "Is this address an Aurora DSQL cluster? Check `cluster` and `connect_address`."
)


def other_authentication(name: str) -> ProtocolError:
    """Say that the peer wants something else than a token in the clear."""
    return ProtocolError(
        f"the cluster asked for an authentication that is not supported: {name}",
        detail="Aurora DSQL takes a token as a cleartext password under TLS, once. "
        "No token was sent in answer to this request.",
        hint=_NOT_A_CLUSTER,
    )


def not_a_login(reason: str) -> ProtocolError:
    """Say what the peer sent that does not belong into a login."""
    return ProtocolError(
        "the cluster broke the protocol during login",
        detail=f"{reason[0].upper()}{reason[1:]}.",
        hint=_NOT_A_CLUSTER,
    )
