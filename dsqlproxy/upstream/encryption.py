"""TLS to a cluster: whom to trust, and the two ways to begin.

Verification is not optional: whoever answers in the cluster's place would get a
token, and the token is an administrator's password. SNI always goes, since clusters
are told apart by it (AWS documentation, "Troubleshooting").
"""

import re
import ssl
from enum import Enum
from importlib.util import find_spec
from pathlib import Path

from dsqlproxy.channel.channel import Channel
from dsqlproxy.errors import ConfigError, UpstreamUnavailable
from dsqlproxy.pgproto.codes import BackendType
from dsqlproxy.pgproto.startup import SSLRequest
from dsqlproxy.situations import network

ALPN_PROTOCOL = "postgresql"
"""Registered for the PostgreSQL protocol; direct TLS demands it (PostgreSQL 17)."""

_HASHED_CERTIFICATE = re.compile(r"[0-9a-f]{8}\.[0-9]+")
_YES, _NO = b"S", b"N"

# X509_V_ERR_… of OpenSSL, x509_vfy.h.
_EXPIRY_CODES = {9, 10}
_NAME_CODES = {62, 64}


class Way(Enum):
    """How TLS begins."""

    DIRECT = "direct TLS"
    REQUEST = "SSLRequest"


class WayRefused(Exception):
    """The peer does not go this way; another one may succeed."""

    def __init__(self, way: Way, reason: str) -> None:
        super().__init__(reason)
        self.reason = f"{way.value}: {reason}"


def client_context(ca_file: Path | None) -> ssl.SSLContext:
    """Make the context that verifies chain and name; `ConfigError` if it cannot.

    Trusted are the authorities in ``ca_file``, or the system's, or, where the system
    has none (slim containers), those that botocore ships.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError:  # ssl.SSLError is one too
        problem = f'ca_file: "{ca_file}" is not a readable PEM file of certificates'
        raise ConfigError([problem]) from None
    if ca_file is None and not has_authorities(context, ssl.get_default_verify_paths()):
        context.load_verify_locations(cafile=_shipped_authorities())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols([ALPN_PROTOCOL])
    return context


def has_authorities(context: ssl.SSLContext, paths: ssl.DefaultVerifyPaths) -> bool:
    """Tell whether there is any certificate to verify against.

    A directory of hashed certificates is read only as they are needed, so its
    content does not show in the context.
    """
    if context.cert_store_stats()["x509_ca"]:
        return True
    if not paths.capath:
        return False
    return any(
        _HASHED_CERTIFICATE.fullmatch(entry.name)
        for entry in Path(paths.capath).iterdir()
    )


async def start_tls(
    channel: Channel, way: Way, *, context: ssl.SSLContext, server_name: str
) -> None:
    """Put the channel under TLS.

    Raises `WayRefused` when the peer will not have it this way, and
    `UpstreamUnavailable` when its certificate is not the right one or it answers
    with an error, which no other way can mend. The caller closes the channel.
    """
    try:
        if way is Way.REQUEST:
            await _request(channel, server_name)
        await channel.start_tls(context, server_hostname=server_name)
    except ssl.SSLCertVerificationError as error:
        raise _not_verified(error, server_name) from None
    except ssl.SSLError as error:
        reason = (error.reason or "TLS handshake failed").replace("_", " ").lower()
        raise WayRefused(way, reason) from None
    except ConnectionError:
        raise WayRefused(way, "the peer closed the connection") from None
    if way is Way.DIRECT and channel.alpn != ALPN_PROTOCOL:
        # As libpq: who accepts TLS without ALPN may be anything, and direct TLS
        # without it is open to cross-protocol attacks.
        raise WayRefused(way, f'the peer did not choose ALPN "{ALPN_PROTOCOL}"')


async def _request(channel: Channel, server_name: str) -> None:
    """Ask for TLS in PostgreSQL's way and read the one byte of the answer."""
    channel.write(SSLRequest().encode())
    answer = await channel.read()
    if answer == _YES:
        return
    if answer[:1] == _YES:
        # CVE-2021-23222: bytes sent in the clear must not pass for encrypted ones.
        raise WayRefused(Way.REQUEST, "the peer sent data ahead of TLS")
    if answer[:1] == _NO:
        raise WayRefused(Way.REQUEST, "the peer offers no TLS")
    if answer[:1] == bytes((BackendType.ERROR_RESPONSE,)):
        # CVE-2024-10977: anyone on the way may have written it, so none of it is
        # read, let alone shown.
        raise network.error_before_tls(server_name)
    raise WayRefused(
        Way.REQUEST,
        "the peer closed the connection" if not answer else "not a PostgreSQL answer",
    )


def _not_verified(
    error: ssl.SSLCertVerificationError, server_name: str
) -> UpstreamUnavailable:
    """Read out of OpenSSL's error what is wrong with the certificate."""
    flaw = network.Flaw.TRUST
    if error.verify_code in _NAME_CODES:
        flaw = network.Flaw.NAME
    elif error.verify_code in _EXPIRY_CODES:
        flaw = network.Flaw.TIME
    return network.not_verified(server_name, reason=error.verify_message, flaw=flaw)


def _shipped_authorities() -> Path:
    """Find the authorities that botocore ships, without importing it."""
    package = find_spec("botocore")
    for folder in package.submodule_search_locations or () if package else ():
        bundle = Path(folder) / "cacert.pem"
        if bundle.is_file():
            return bundle
    raise ConfigError(
        ["ca_file: the system has no certificate authorities; name a PEM file of them"]
    )
