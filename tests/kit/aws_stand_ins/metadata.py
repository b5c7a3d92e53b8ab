"""Where a machine and a container find their credentials: IMDS, and ECS's and EKS's.

AWS documentation: "Use the Instance Metadata Service", "Container credential
provider" (SDKs and Tools reference guide).
"""

import threading
from pathlib import Path
from typing import Any, Final

from tests.kit.aws_stand_ins.mint import ACCOUNT, Mint, TemporaryCredentials, role_arn
from tests.kit.aws_stand_ins.operations import (
    Answers,
    Denied,
    Operation,
    Reply,
    Request,
)
from tests.kit.aws_stand_ins.service import Answer, credentials_of

_ROLES: Final = "/latest/meta-data/iam/security-credentials/"
_ZONE: Final = "/latest/meta-data/placement/availability-zone/"
_ECS: Final = "/v2/credentials/0123"
_EKS: Final = "/v1/credentials"


def _text(status: int, text: str) -> Reply:
    return Reply(status, text.encode(), {"Content-Type": "text/plain"})


class Imds:
    """The metadata service of an EC2 instance, version 2 and where allowed 1."""

    def __init__(self, mint: Mint) -> None:
        self._mint = mint
        self._lock = threading.Lock()
        self._tokens: set[str] = set()
        self.allows_version_1 = False
        """Whether a request without a token is answered."""
        self.role_name = "instance-role"
        """The role of the instance profile; empty: the instance has none."""
        self.zone = "us-east-1a"
        unauthorized = Denied("401 - Unauthorized", "", status=401)
        forbidden = Denied("403 - Forbidden", "", status=403)
        self.token = Operation("token", denial=forbidden)
        self.role = Operation("role", denial=unauthorized)
        self.credentials = Operation("credentials", denial=unauthorized)
        self.placement = Operation("placement", denial=unauthorized)

    @property
    def operations(self) -> tuple[Operation, ...]:
        return self.token, self.role, self.credentials, self.placement

    def hang(self) -> None:
        """Answer nothing, whatever is asked."""
        for operation in self.operations:
            operation.hang()

    def release(self) -> None:
        """Answer again."""
        for operation in self.operations:
            operation.release()

    def find(self, request: Request) -> tuple[Operation, Answer] | None:
        match request.method, request.path:
            case "PUT", "/latest/api/token":
                return self.token, self._token
            case "GET", path if path == _ROLES:
                return self.role, self._role
            case "GET", path if path == _ZONE:
                return self.placement, self._placement
            case "GET", path if path.startswith(_ROLES):
                return self.credentials, self._credentials
            case _:
                return None

    def tell(self, denied: Denied) -> Reply:
        # It answers with a page of HTML, which nobody reads.
        return _text(denied.status, f"<title>{denied.code}</title>{denied.message}")

    # -- the operations ------------------------------------------------------------

    def _token(self, request: Request, answers: Answers) -> Reply:
        del answers  # no credentials yet
        if not request.headers.get("x-aws-ec2-metadata-token-ttl-seconds"):
            raise Denied("400 - Bad Request", "", status=400)
        token = self._mint.text(56)
        with self._lock:
            self._tokens.add(token)
        return _text(200, token)

    def _role(self, request: Request, answers: Answers) -> Reply:
        del answers
        self._check(request)
        if not self.role_name:
            raise Denied("404 - Not Found", "", status=404)
        return _text(200, self.role_name)

    def _placement(self, request: Request, answers: Answers) -> Reply:
        del answers
        self._check(request)
        return _text(200, self.zone)

    def _credentials(self, request: Request, answers: Answers) -> Reply:
        self._check(request)
        if not self.role_name or request.path != _ROLES + self.role_name:
            raise Denied("404 - Not Found", "", status=404)
        made = credentials_of(answers, self._mint, role_arn(self.role_name))
        return Reply.of_json(
            200, {"Code": "Success", "Type": "AWS-HMAC", **_fields(made)}
        )

    def _check(self, request: Request) -> None:
        token = request.headers.get("x-aws-ec2-metadata-token")
        with self._lock:
            is_known = token in self._tokens
        if not is_known and not (token is None and self.allows_version_1):
            raise Denied("401 - Unauthorized", "", status=401)


class Container:
    """The endpoint in a task of ECS, or the pod identity agent of EKS."""

    def __init__(self, mint: Mint) -> None:
        self._mint = mint
        self.authorization: str | None = None
        """What the ``Authorization`` header must be, where a test sets it."""
        self.role_name = "container-role"
        self.url = ""
        """The address of the server; the stand-ins set it."""
        self.credentials = Operation(
            "credentials",
            denial=Denied(
                "AccessDeniedException", "The pod identity is not associated"
            ),
        )

    # -- what a container finds in its environment ---------------------------------

    def ecs(self, authorization: str = "") -> dict[str, str]:
        """Give the variables of a task, with a token in them if there is one."""
        variables = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.url}{_ECS}"}
        if authorization:
            variables["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = authorization
        return variables

    def eks(self, token_file: Path) -> dict[str, str]:
        """Give the variables of a pod; its token is in a file, which rotates."""
        return {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.url}{_EKS}",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token_file),
        }

    # -- for the server ------------------------------------------------------------

    @property
    def operations(self) -> tuple[Operation, ...]:
        return (self.credentials,)

    def find(self, request: Request) -> tuple[Operation, Answer] | None:
        if request.method == "GET" and request.path in {_ECS, _EKS}:
            return self.credentials, self._credentials
        return None

    def tell(self, denied: Denied) -> Reply:
        return Reply.of_json(
            denied.status, {"code": denied.code, "message": denied.message}
        )

    def _credentials(self, request: Request, answers: Answers) -> Reply:
        given = request.headers.get("authorization")
        if self.authorization not in {None, given}:
            raise Denied(
                "AccessDeniedException",
                "Unauthorized Exception! EKS does not have "
                "permissions to assume the associated role.",
                status=401,
            )
        arn = role_arn(self.role_name)
        made = credentials_of(answers, self._mint, arn)
        return Reply.of_json(
            200, {"RoleArn": arn, "AccountId": ACCOUNT, **_fields(made)}
        )


def _fields(made: TemporaryCredentials) -> dict[str, Any]:
    return {
        "AccessKeyId": made.access_key_id,
        "SecretAccessKey": made.key.secret_access_key,
        "Token": made.session_token,
        "Expiration": made.expiration,
    }
