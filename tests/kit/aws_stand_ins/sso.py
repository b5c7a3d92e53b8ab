"""AWS SSO (IAM Identity Center): the portal that gives credentials, and its OIDC.

`Sso.sign_in` stands for the browser: it gives the tokens that ``aws sso login``
would have written down; `Home.sign_in` writes them. `Sso.revoke` ends them all, as
an administrator does or the end of the session at the identity provider.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tests.kit.aws_stand_ins.mint import ACCOUNT, Mint
from tests.kit.aws_stand_ins.operations import (
    Answers,
    Denied,
    Operation,
    Reply,
    Request,
)
from tests.kit.aws_stand_ins.service import Answer, credentials_of

REGION: Final = "us-east-1"
START_URL: Final = "https://example.awsapps.com/start"

_WEEK: Final = 7 * 86400.0


@dataclass(frozen=True, slots=True)
class SsoTokens:
    """What a person has after signing in, until ``expires_at``."""

    access_token: str = field(repr=False)
    expires_at: float
    refresh_token: str = field(repr=False)
    client_id: str
    client_secret: str = field(repr=False)
    registration_expires_at: float


class Sso:
    """GetRoleCredentials and, for sso-session profiles, CreateToken."""

    def __init__(self, mint: Mint, clock: Callable[[], float]) -> None:
        self._mint = mint
        self._clock = clock
        self._lock = threading.Lock()
        self._access_tokens: dict[str, float] = {}
        self._refresh_tokens: set[str] = set()
        self.token_lifetime = 8 * 3600.0
        """How long an access token from CreateToken lasts, in seconds."""
        self.get_role_credentials = Operation(
            "GetRoleCredentials",
            denial=Denied(
                "UnauthorizedException",
                "Session token not found or invalid",
                status=401,
            ),
        )
        self.create_token = Operation(
            "CreateToken",
            denial=Denied(
                "InvalidGrantException", "Invalid refresh token provided", status=400
            ),
        )

    def sign_in(self, *, lifetime: float = 8 * 3600.0) -> SsoTokens:
        """Give new tokens that the portal takes for so many seconds."""
        now = self._clock()
        tokens = SsoTokens(
            access_token=self._mint.text(300),
            expires_at=now + lifetime,
            refresh_token=self._mint.text(300),
            client_id=self._mint.text(22),
            client_secret=self._mint.text(200),
            registration_expires_at=now + _WEEK,
        )
        with self._lock:
            self._access_tokens[tokens.access_token] = tokens.expires_at
            self._refresh_tokens.add(tokens.refresh_token)
        return tokens

    def revoke(self) -> None:
        """Take no token any more that has been given so far."""
        with self._lock:
            self._access_tokens.clear()
            self._refresh_tokens.clear()

    # -- for the server ------------------------------------------------------------

    @property
    def operations(self) -> tuple[Operation, ...]:
        return self.get_role_credentials, self.create_token

    def find(self, request: Request) -> tuple[Operation, Answer] | None:
        match request.method, request.path:
            case "GET", "/federation/credentials":
                return self.get_role_credentials, self._get_role_credentials
            case "POST", "/token":
                return self.create_token, self._create_token
            case _:
                return None

    def tell(self, denied: Denied) -> Reply:
        # The portal says `message`, OIDC the words of its RFC; each reads its own.
        error = denied.code.removesuffix("Exception")
        spelled = "".join(f"_{c.lower()}" if c.isupper() else c for c in error)
        return Reply.of_json(
            denied.status,
            {
                "message": denied.message,
                "error": spelled.lstrip("_"),
                "error_description": denied.message,
            },
            x_amzn_ErrorType=denied.code,
        )

    # -- the operations ------------------------------------------------------------

    def _get_role_credentials(self, request: Request, answers: Answers) -> Reply:
        token = request.headers.get("x-amz-sso_bearer_token", "")
        with self._lock:
            expires_at = self._access_tokens.get(token, 0.0)
        if expires_at <= self._clock():
            raise Denied(
                "UnauthorizedException",
                "Session token not found or invalid",
                status=401,
            )
        made = credentials_of(answers, self._mint, sso_role_arn(**request.query))
        return Reply.of_json(
            200,
            {
                "roleCredentials": {
                    "accessKeyId": made.access_key_id,
                    "secretAccessKey": made.key.secret_access_key,
                    "sessionToken": made.session_token,
                    "expiration": int(made.expires_at * 1000),
                }
            },
        )

    def _create_token(self, request: Request, answers: Answers) -> Reply:
        del answers  # its tokens are those of `token_lifetime`
        asked = request.json
        with self._lock:
            if asked.get("refreshToken") not in self._refresh_tokens:
                raise Denied(
                    "InvalidGrantException",
                    "Invalid refresh token provided",
                    status=400,
                )
            self._refresh_tokens.discard(asked["refreshToken"])
        tokens = self.sign_in(lifetime=self.token_lifetime)
        return Reply.of_json(
            200,
            {
                "accessToken": tokens.access_token,
                "expiresIn": int(self.token_lifetime),
                "refreshToken": tokens.refresh_token,
                "tokenType": "Bearer",
            },
        )


def sso_role_arn(role_name: str, account_id: str = ACCOUNT) -> str:
    """Give the ARN of the role behind a permission set."""
    name = f"AWSReservedSSO_{role_name}_0123456789abcdef"
    return (
        f"arn:aws:iam::{account_id}:role/aws-reserved/sso.amazonaws.com/{REGION}/{name}"
    )
