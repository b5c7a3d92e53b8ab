"""What the examination of a listener says of what it found."""

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, Final

from dsqlproxy.aws.credentials import Credentials
from dsqlproxy.config import ListenerConfig, TcpAddress
from dsqlproxy.dsql import DATABASE, action_for
from dsqlproxy.errors import DsqlProxyError, UpstreamRejected
from dsqlproxy.session.last_words import last_words
from dsqlproxy.situations.remedies import Remedy, Trouble
from dsqlproxy.situations.restart import for_a_command
from dsqlproxy.upstream.securing import Attempt

_SOCKET_PREFIX: Final = ".s.PGSQL."
_REACHED_BY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - no binding


def trouble_of(error: DsqlProxyError, remedy: Remedy | None = None) -> Trouble:
    """Give an error in the words that a client would be told.

    But for what a running proxy does by itself: there is none here.
    """
    told = last_words(error)
    sent = error.fields if isinstance(error, UpstreamRejected) else ()
    return Trouble(
        told.message,
        code=told.sqlstate,
        detail=for_a_command(told.detail),
        hint=for_a_command(told.hint),
        remedy=remedy,
        quoted=tuple(
            for_a_command(text) for code, text in sent if code in {"D", "H"} and text
        ),
    )


def dns_text(attempt: Attempt, connect_address: TcpAddress | None) -> str:
    """Give the first address; the name too, where it is not the cluster's."""
    first, *others = (str(each.sockaddr[0]) for each in attempt.addresses)
    text = f"{first} and {len(others)} more" if others else first
    if connect_address is None:
        return text
    arrow = "" if connect_address.host == first else f"{connect_address.host} -> "
    return f"{arrow}{text} (connect_address)"


def tls_text(attempt: Attempt) -> str:
    """Say how TLS was begun, and with whose certificate."""
    tls = attempt.channel.tls if attempt.channel else None
    if tls is None or attempt.way is None:
        return ""
    certificate = tls.peer_certificate
    names = [name for _, name in certificate.get("subjectAltName", ())]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    ends_at = datetime.fromtimestamp(
        ssl.cert_time_to_seconds(certificate["notAfter"]), UTC
    )
    return (
        f"{tls.version}, {attempt.way.value}, certificate of "
        f"{names[0] if names else 'no name'}{more}, until {ends_at:%Y-%m-%d}, "
        f"issued by {_issuer(certificate)}"
    )


def _issuer(certificate: Mapping[str, Any]) -> str:
    parts = {
        name: text for pairs in certificate.get("issuer", ()) for name, text in pairs
    }
    common, organization = (
        parts.get("commonName", ""),
        parts.get("organizationName", ""),
    )
    if organization and not common.startswith(organization):
        return f"{organization} {common}".rstrip()
    return common or "nobody named"


def credentials_text(
    credentials: Credentials, *, profile: str | None, caller: str | None, now: float
) -> str:
    """Say whose credentials were found, where, and for how long they are good."""
    if credentials.expires_at is not None:
        ends = f"expire in {span_text(credentials.seconds_left(now))}"
    elif credentials.session_token is not None:
        ends = "expire at a time that nobody has told"
    else:
        ends = "do not expire"
    parts = (
        credentials.source,
        f"profile {profile}" if profile else "",
        credentials.short_id,
        caller or credentials.role_arn,
        ends,
    )
    return ", ".join(part for part in parts if part)


def token_text(attempt: Attempt) -> str:
    """Say what a token is for, and how long it is good."""
    token = attempt.token
    if token is None:
        return ""
    return (
        f"for role {token.role}, {action_for(token.role)}, {token.lifetime_seconds} s"
    )


def login_text(reported: Mapping[str, str], role: str) -> str:
    """Say as whom, and to what, a session was opened."""
    version = reported.get("server_version")
    return f"role {role}" + (f", PostgreSQL {version}" if version else "")


def span_text(seconds: float) -> str:
    """Give a span as people say it: ``45 s``, ``7 h 12 min``, ``3 d 4 h``."""
    whole = max(0, int(seconds))
    for size, unit, part, parts in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "min"),
    ):
        if whole >= size:
            count, rest = divmod(whole, size)
            return f"{count} {unit} {rest // part} {parts}"
    return f"{whole // 60} min" if whole >= 60 else f"{whole} s"


def client_line(listener: ListenerConfig, role: str) -> str:
    """Give the psql line for a listener."""
    listen = listener.listen
    if isinstance(listen, TcpAddress):
        host = _REACHED_BY.get(listen.host, listen.host)
        port = str(listen.port or "<the port that the log names>")
    else:
        path = PurePosixPath(listen.path)
        if not path.name.startswith(_SOCKET_PREFIX):
            return f"a driver that takes the path of a socket, {path}"
        host, port = str(path.parent), path.name.removeprefix(_SOCKET_PREFIX)
    return f"psql -h {host} -p {port} -U {role} {DATABASE}"
