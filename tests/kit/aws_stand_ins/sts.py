"""AWS Security Token Service: the query protocol, XML answers.

Whether a signature is right is not looked at; who signed, and when, is.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final
from xml.sax.saxutils import escape

from dsqlproxy.emulator.sigv4 import AccessKey
from tests.kit.aws_stand_ins.mint import ACCOUNT, Mint, TemporaryCredentials
from tests.kit.aws_stand_ins.operations import (
    Answers,
    Denied,
    Operation,
    Reply,
    Request,
)
from tests.kit.aws_stand_ins.service import Answer, credentials_of

_NAMESPACE: Final = "https://sts.amazonaws.com/doc/2011-06-15/"
_REQUEST_ID: Final = "01234567-89ab-cdef-0123-456789abcdef"
_TOLERANCE: Final = timedelta(minutes=5)  # AWS documentation: five minutes
_TIME_FORMAT: Final = "%Y%m%dT%H%M%SZ"
_CREDENTIAL: Final = re.compile(r"Credential=([^/,]+)/")


class Sts:
    """AssumeRole, AssumeRoleWithWebIdentity, GetCallerIdentity."""

    def __init__(self, mint: Mint, clock: Callable[[], float]) -> None:
        self._mint = mint
        self._clock = clock
        self.external_id: str | None = None
        """What AssumeRole must bring, where a test sets it."""
        self.session_name: str | None = None
        """What AssumeRole and AssumeRoleWithWebIdentity must bring, where set."""
        self.web_identity_token: str | None = None
        """The token that is taken, where a test sets it; otherwise any."""
        self.assume_role = Operation("AssumeRole", denial=_denied("AssumeRole"))
        self.assume_role_with_web_identity = Operation(
            "AssumeRoleWithWebIdentity",
            denial=Denied(
                "AccessDenied",
                "Not authorized to perform sts:AssumeRoleWithWebIdentity",
            ),
        )
        self.get_caller_identity = Operation(
            "GetCallerIdentity", denial=_denied("GetCallerIdentity")
        )

    @property
    def operations(self) -> tuple[Operation, ...]:
        return (
            self.assume_role,
            self.assume_role_with_web_identity,
            self.get_caller_identity,
        )

    def find(self, request: Request) -> tuple[Operation, Answer] | None:
        if (request.method, request.path) != ("POST", "/"):
            return None
        match request.form.get("Action"):
            case "AssumeRole":
                return self.assume_role, self._assume_role
            case "AssumeRoleWithWebIdentity":
                return self.assume_role_with_web_identity, self._with_web_identity
            case "GetCallerIdentity":
                return self.get_caller_identity, self._get_caller_identity
            case _:
                return None

    def tell(self, denied: Denied) -> Reply:
        kind = "Sender" if denied.status < 500 else "Receiver"
        return _xml(
            denied.status,
            f'<ErrorResponse xmlns="{_NAMESPACE}"><Error><Type>{kind}</Type>'
            f"<Code>{escape(denied.code)}</Code>"
            f"<Message>{escape(denied.message)}</Message></Error>"
            f"<RequestId>{_REQUEST_ID}</RequestId></ErrorResponse>",
        )

    # -- the operations ------------------------------------------------------------

    def _assume_role(self, request: Request, answers: Answers) -> Reply:
        caller = self._caller(request)
        form = request.form
        wrong_name = self.session_name not in {None, form["RoleSessionName"]}
        wrong_id = self.external_id not in {None, form.get("ExternalId")}
        if wrong_name or wrong_id:
            raise Denied(
                "AccessDenied",
                f"User: {caller.principal_arn} is not authorized to perform: "
                f"sts:AssumeRole on resource: {form['RoleArn']}",
            )
        made = credentials_of(answers, self._mint, form["RoleArn"])
        return _result("AssumeRole", _assumed(made, form))

    def _with_web_identity(self, request: Request, answers: Answers) -> Reply:
        form = request.form
        if self.web_identity_token not in {None, form["WebIdentityToken"]}:
            raise Denied(
                "InvalidIdentityToken",
                "The ID Token provided is not a valid JWT. (You may see this error if "
                "you sent an Access Token)",
                status=400,
            )
        if self.session_name not in {None, form["RoleSessionName"]}:
            raise Denied(
                "AccessDenied",
                "Not authorized to perform sts:AssumeRoleWithWebIdentity",
            )
        made = credentials_of(answers, self._mint, form["RoleArn"])
        return _result("AssumeRoleWithWebIdentity", _assumed(made, form))

    def _get_caller_identity(self, request: Request, answers: Answers) -> Reply:
        del answers  # it gives none
        caller = self._caller(request)
        return _result(
            "GetCallerIdentity",
            f"<Arn>{escape(caller.principal_arn)}</Arn>"
            f"<UserId>AIDAEXAMPLE</UserId><Account>{ACCOUNT}</Account>",
        )

    # -- who asks ------------------------------------------------------------------

    def _caller(self, request: Request) -> AccessKey:
        """Give the key that signed; AWS's own words where there is none."""
        found = _CREDENTIAL.search(request.headers.get("authorization", ""))
        if found is None:
            raise Denied(
                "MissingAuthenticationToken",
                "Request is missing Authentication Token",
            )
        key = self._mint.find(found[1])
        token = request.headers.get("x-amz-security-token")
        if key is None or token != key.session_token:
            raise Denied(
                "InvalidClientTokenId",
                "The security token included in the request is invalid.",
            )
        if self._mint.has_expired(key.access_key_id):
            raise Denied(
                "ExpiredToken", "The security token included in the request is expired"
            )
        self._check_time(request.headers.get("x-amz-date", ""))
        return key

    def _check_time(self, signed: str) -> None:
        now = datetime.fromtimestamp(self._clock(), UTC)
        at = datetime.strptime(signed, _TIME_FORMAT).replace(tzinfo=UTC)
        if abs(now - at) <= _TOLERANCE:
            return
        if at < now:
            limit = now - _TOLERANCE
            words = f"Signature expired: {signed} is now earlier than"
            sign = "-"
        else:
            limit = now + _TOLERANCE
            words = f"Signature not yet current: {signed} is still later than"
            sign = "+"
        raise Denied(
            "SignatureDoesNotMatch",
            f"{words} {limit.strftime(_TIME_FORMAT)} "
            f"({now.strftime(_TIME_FORMAT)} {sign} 5 min.)",
        )


def _denied(operation: str) -> Denied:
    return Denied(
        "AccessDenied",
        f"User: arn:aws:iam::{ACCOUNT}:user/developer is not authorized to perform: "
        f"sts:{operation}",
    )


def _assumed(made: TemporaryCredentials, form: dict[str, str]) -> str:
    name = form["RoleArn"].rpartition("/")[2]
    session = form["RoleSessionName"]
    return (
        f"<AssumedRoleUser><AssumedRoleId>AROAEXAMPLE:{escape(session)}</AssumedRoleId>"
        f"<Arn>arn:aws:sts::{ACCOUNT}:assumed-role/{escape(name)}/{escape(session)}"
        "</Arn></AssumedRoleUser>"
        f"<Credentials><AccessKeyId>{made.access_key_id}</AccessKeyId>"
        f"<SecretAccessKey>{made.key.secret_access_key}</SecretAccessKey>"
        f"<SessionToken>{made.session_token}</SessionToken>"
        f"<Expiration>{made.expiration}</Expiration></Credentials>"
    )


def _result(operation: str, inner: str) -> Reply:
    return _xml(
        200,
        f'<{operation}Response xmlns="{_NAMESPACE}">'
        f"<{operation}Result>{inner}</{operation}Result><ResponseMetadata>"
        f"<RequestId>{_REQUEST_ID}</RequestId></ResponseMetadata>"
        f"</{operation}Response>",
    )


def _xml(status: int, text: str) -> Reply:
    return Reply(status, text.encode(), {"Content-Type": "text/xml"})
