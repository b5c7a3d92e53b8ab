"""Verification of an authentication token: AWS Signature Version 4 in a query string.

Written against the AWS specification ("Signature Version 4: authenticating
requests with query parameters"), not against the library that signs, so that it
is an independent witness. A token is a presigned GET without its scheme::

    <host>/?Action=DbConnectAdmin&X-Amz-Algorithm=AWS4-HMAC-SHA256
      &X-Amz-Credential=<key>%2F<day>%2F<region>%2Fdsql%2Faws4_request
      &X-Amz-Date=<time>&X-Amz-Expires=<seconds>&X-Amz-SignedHeaders=host
      [&X-Amz-Security-Token=…]&X-Amz-Signature=<64 hex digits>

The canonical request is built from what was received, the key is derived from
the secret by four HMACs (day, region, service, "aws4_request"), and the result
is compared in constant time. Nothing here reads a clock or a socket.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final
from urllib.parse import quote, unquote

from dsqlproxy.dsql import MAX_TOKEN_LIFETIME_SECONDS, action_for

FUTURE_TOLERANCE: Final = timedelta(minutes=5)
"""How far ahead a signer's clock may run (AWS documentation: five minutes)."""

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_TERMINATOR: Final = "aws4_request"
_SERVICE: Final = "dsql"
_TIME_FORMAT: Final = "%Y%m%dT%H%M%SZ"
_EMPTY_BODY: Final = hashlib.sha256(b"").hexdigest()
_REQUIRED: Final = frozenset(
    {
        "Action",
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-SignedHeaders",
        "X-Amz-Signature",
    }
)
_ALLOWED: Final = _REQUIRED | {"X-Amz-Security-Token"}
_TIME: Final = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_SECONDS: Final = re.compile(r"[0-9]{1,12}")
_SIGNATURE: Final = re.compile(r"[0-9a-f]{64}")


class Refusal(StrEnum):
    """Why a token is not accepted."""

    MALFORMED = "malformed"
    HOST = "host"
    ACTION = "action"
    REGION = "region"
    UNKNOWN_KEY = "unknown-key"
    SESSION_TOKEN = "session-token"  # noqa: S105 - a reason, not a secret
    SIGNATURE = "signature"
    EXPIRES_TOO_LONG = "expires-too-long"
    EXPIRED = "expired"
    NOT_YET_VALID = "not-yet-valid"


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A key that may sign tokens, and the principal it stands for."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    principal_arn: str
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The token is good; ``principal_arn`` is who signed it."""

    principal_arn: str
    action: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The token is not good; ``explanation`` never quotes it."""

    reason: Refusal
    explanation: str


Verdict = Accepted | Refused


@dataclass(frozen=True, slots=True)
class _Token:
    """The parts of a token, split but not yet believed."""

    host: str
    parameters: Mapping[str, str] = field(repr=False)
    access_key_id: str
    day: str
    region: str
    service: str
    signed_at: datetime
    expires_seconds: int


class _Malformed(Exception):
    """The text is not a token at all."""


@dataclass(frozen=True, slots=True)
class TokenVerifier:
    """Checks tokens for one cluster against the keys it knows."""

    hosts: frozenset[str]
    region: str
    keys: Mapping[str, AccessKey] = field(repr=False)

    def verify(self, token: str, *, user: str, now: float) -> Verdict:
        """Accept the token for this database role at this time, or say why not.

        ``now`` is in seconds since the epoch. The signature is checked before
        the times: an expiry is only believed when it was signed.
        """
        try:
            parts = _split(token)
        except _Malformed as malformed:
            return Refused(Refusal.MALFORMED, str(malformed))
        return (
            self._check_scope(parts)
            or self._check_key(parts)
            or _check_action(parts, user)
            or _check_times(parts, datetime.fromtimestamp(now, UTC))
            or Accepted(
                principal_arn=self.keys[parts.access_key_id].principal_arn,
                action=parts.parameters["Action"],
            )
        )

    def _check_scope(self, parts: _Token) -> Refused | None:
        if parts.host not in self.hosts:
            return Refused(Refusal.HOST, "The token was signed for another host.")
        if parts.service != _SERVICE:
            return Refused(
                Refusal.MALFORMED,
                "Credential should be scoped to correct service: 'dsql'.",
            )
        if parts.region != self.region:
            return Refused(
                Refusal.REGION, "Credential should be scoped to a valid region."
            )
        if parts.expires_seconds > MAX_TOKEN_LIFETIME_SECONDS:
            return Refused(
                Refusal.EXPIRES_TOO_LONG,
                "X-Amz-Expires must be less than a week (in seconds); that is, "
                "the given X-Amz-Expires must be less than "
                f"{MAX_TOKEN_LIFETIME_SECONDS} seconds",
            )
        return None

    def _check_key(self, parts: _Token) -> Refused | None:
        key = self.keys.get(parts.access_key_id)
        if key is None:
            return Refused(
                Refusal.UNKNOWN_KEY,
                "The security token included in the request is invalid.",
            )
        session_token = parts.parameters.get("X-Amz-Security-Token")
        if not _same_secret(session_token or "", key.session_token or ""):
            return Refused(
                Refusal.SESSION_TOKEN,
                "The security token included in the request is invalid.",
            )
        expected = _signature(parts, key.secret_access_key)
        if not _same_secret(parts.parameters["X-Amz-Signature"], expected):
            return Refused(
                Refusal.SIGNATURE,
                "The request signature we calculated does not match the signature "
                "you provided. Check your AWS Secret Access Key and signing method.",
            )
        return None


def _check_action(parts: _Token, user: str) -> Refused | None:
    action = parts.parameters["Action"]
    if action != action_for(user):
        return Refused(
            Refusal.ACTION,
            f"Wrong user to action mapping. user: {user}, action: {action}",
        )
    return None


def _check_times(parts: _Token, now: datetime) -> Refused | None:
    signed = parts.signed_at.strftime(_TIME_FORMAT)
    if parts.signed_at > now + FUTURE_TOLERANCE:
        latest = (now + FUTURE_TOLERANCE).strftime(_TIME_FORMAT)
        return Refused(
            Refusal.NOT_YET_VALID,
            f"Signature not yet current: {signed} is still later than {latest} "
            f"({now.strftime(_TIME_FORMAT)} + 5 min.)",
        )
    lifetime = timedelta(seconds=parts.expires_seconds)
    if now >= parts.signed_at + lifetime:
        # The form of AWS's own sentence; only "Signature expired: …" was observed.
        earliest = (now - lifetime).strftime(_TIME_FORMAT)
        return Refused(
            Refusal.EXPIRED,
            f"Signature expired: {signed} is now earlier than {earliest} "
            f"({now.strftime(_TIME_FORMAT)} - {parts.expires_seconds} sec.)",
        )
    return None


def _split(token: str) -> _Token:
    host, separator, query = token.partition("/?")
    if not separator or not host or not query.isascii():
        raise _Malformed("This is not an authentication token: <host>/?<query>.")
    parameters = _parameters(query)
    algorithm = parameters["X-Amz-Algorithm"]
    if algorithm != _ALGORITHM:
        raise _Malformed(f"X-Amz-Algorithm must be {_ALGORITHM}.")
    if parameters["X-Amz-SignedHeaders"] != "host":
        raise _Malformed("X-Amz-SignedHeaders must be the host alone.")
    if not _SIGNATURE.fullmatch(parameters["X-Amz-Signature"]):
        raise _Malformed("X-Amz-Signature must be 64 lower-case hex digits.")
    scope = parameters["X-Amz-Credential"].split("/")
    if len(scope) != 5 or scope[4] != _TERMINATOR:
        raise _Malformed("X-Amz-Credential is not <key>/<day>/<region>/dsql/…")
    signed_at = _time(parameters["X-Amz-Date"])
    if parameters["X-Amz-Date"][:8] != scope[1]:
        raise _Malformed("X-Amz-Date and X-Amz-Credential name different days.")
    return _Token(
        host=host,
        parameters=parameters,
        access_key_id=scope[0],
        day=scope[1],
        region=scope[2],
        service=scope[3],
        signed_at=signed_at,
        expires_seconds=_expires(parameters["X-Amz-Expires"]),
    )


def _parameters(query: str) -> dict[str, str]:
    """Split the query; each name once, none unknown, each encoded in the one way.

    A value that could be written differently (``%2f`` for ``%2F``) is refused, so
    that two spellings of one token do not both pass.
    """
    parameters: dict[str, str] = {}
    for pair in query.split("&"):
        name, _, encoded = pair.partition("=")
        value = unquote(encoded)
        if name not in _ALLOWED:
            raise _Malformed("The token carries a parameter that is not known.")
        if name in parameters:
            raise _Malformed(f"The token carries {name} twice.")
        if _encode(value) != encoded:
            raise _Malformed(f"{name} is not encoded as AWS prescribes.")
        parameters[name] = value
    if missing := sorted(_REQUIRED - parameters.keys()):
        raise _Malformed(f"The token lacks {', '.join(missing)}.")
    return parameters


def _time(text: str) -> datetime:
    if _TIME.fullmatch(text):
        try:
            return datetime.strptime(text, _TIME_FORMAT).replace(tzinfo=UTC)
        except ValueError:
            pass
    raise _Malformed("X-Amz-Date is not a time of the form YYYYMMDDTHHMMSSZ.")


def _expires(text: str) -> int:
    if not _SECONDS.fullmatch(text) or int(text) < 1:
        raise _Malformed("X-Amz-Expires must be a positive number of seconds.")
    return int(text)


def _signature(parts: _Token, secret_access_key: str) -> str:
    scope = f"{parts.day}/{parts.region}/{parts.service}/{_TERMINATOR}"
    string_to_sign = "\n".join(
        (
            _ALGORITHM,
            parts.parameters["X-Amz-Date"],
            scope,
            hashlib.sha256(_canonical_request(parts).encode()).hexdigest(),
        )
    )
    key = f"AWS4{secret_access_key}".encode()
    for step in (parts.day, parts.region, parts.service, _TERMINATOR):
        key = hmac.digest(key, step.encode(), "sha256")
    return hmac.digest(key, string_to_sign.encode(), "sha256").hex()


def _canonical_request(parts: _Token) -> str:
    query = "&".join(
        f"{_encode(name)}={_encode(value)}"
        for name, value in sorted(parts.parameters.items())
        if name != "X-Amz-Signature"
    )
    return f"GET\n/\n{query}\nhost:{parts.host}\n\nhost\n{_EMPTY_BODY}"


def _encode(value: str) -> str:
    # AWS's UriEncode: all but A-Z a-z 0-9 - . _ ~ as %XX in upper case.
    return quote(value, safe="-._~")


def _same_secret(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())
