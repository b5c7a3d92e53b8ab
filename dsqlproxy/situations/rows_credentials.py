"""The catalogue's rows of what `credentials` says.

botocore's exceptions are stood in for by classes of the same names: those are what
they are known by.
"""

from typing import Any, Final

from dsqlproxy.errors import TokenError
from dsqlproxy.situations import credentials
from dsqlproxy.situations.credentials import CredentialOrigin, explain
from dsqlproxy.situations.situation import (
    CLUSTER,
    PROFILE,
    Section,
    Situation,
    Waits,
)

_CHAIN: Final = CredentialOrigin(None)
_PROFILE: Final = CredentialOrigin(PROFILE, named_by="`profile`")
_ROLE_ARN: Final = "arn:aws:iam::111122223333:role/Reader"
_FILE: Final = "/home/me/bin/get-credentials"


def _raised(name: str, text: str = "", **values: object) -> Any:
    """Make an exception of botocore's."""
    error = type(name, (Exception,), {})(text)
    vars(error).update(values)
    return error


def _refusal(code: str, operation: str, text: str = "") -> Any:
    """Make what botocore raises when AWS answers a call with an error."""
    response = {"Error": {"Code": code}}
    return _raised("ClientError", text, response=response, operation_name=operation)


def _row(key: str, title: str, error: TokenError, *, mends: str) -> Situation:
    """Make a row; clients are held for what may pass."""
    return Situation(
        key=key,
        title=title,
        example=error,
        mends=mends,
        waits=Waits.HELD if error.may_pass else Waits.NOT,
    )


SSO_EXPIRED: Final = explain(_raised("UnauthorizedSSOTokenError"), _PROFILE)

_PARTIAL: Final = _raised(
    "PartialCredentialsError",
    kwargs={
        "provider": "shared-credentials-file",
        "cred_var": "aws_secret_access_key",
    },
)
_HALF_OF_ENVIRONMENT: Final = _raised(
    "PartialCredentialsError",
    kwargs={"provider": "env", "cred_var": "AWS_SECRET_ACCESS_KEY"},
)
_FILE_MISSING: Final = FileNotFoundError(2, "No such file or directory", _FILE)

CREDENTIALS: Final = Section(
    "AWS credentials are missing, expired or refused by AWS",
    "DETAIL names where the proxy looked. What changes under ~/.aws or at AWS is taken "
    "up without a restart: the files are looked at every second, and the next login "
    "asks the source again. A change of the configuration file, of flags or of the "
    "environment needs a restart. `dsqlproxy token` asks the source, too, and nothing "
    "else.",
    (
        _row(
            "no-credentials",
            "There are no credentials",
            explain(_raised("NoCredentialsError"), _CHAIN),
            mends="Credentials in any of the places that AWS's own tools look at.",
        ),
        _row(
            "no-profile",
            "The profile does not exist",
            explain(_raised("ProfileNotFound", kwargs={"profile": PROFILE}), _PROFILE),
            mends="The profile, or its right name. DETAIL says what names it: "
            "`profile` (a flag, a variable or a key of the file), or AWS_PROFILE.",
        ),
        _row(
            "partial-credentials",
            "Half of the credentials is missing",
            explain(_PARTIAL, _PROFILE),
            mends="Add the missing half, or remove the other one.",
        ),
        _row(
            "partial-environment",
            "Half of the keys in the environment is missing",
            explain(_HALF_OF_ENVIRONMENT, _CHAIN),
            mends="The environment of the proxy, and a restart.",
        ),
        _row(
            "sso-expired",
            "The SSO session has expired",
            SSO_EXPIRED,
            mends="`aws sso login`, with the profile that the HINT names.",
        ),
        _row(
            "aws-login-expired",
            "The session of `aws login` has expired",
            explain(_raised("LoginError"), _PROFILE),
            mends="`aws login`, with the profile that the HINT names.",
        ),
        _row(
            "crt-missing",
            "The profile of `aws login` needs a package",
            explain(_raised("MissingDependencyException"), _PROFILE),
            mends="The package, and a restart of the proxy.",
        ),
        _row(
            "sso-role-refused",
            "SSO does not give the role of the profile",
            explain(_refusal("ForbiddenException", "GetRoleCredentials"), _PROFILE),
            mends="An assignment of the user to account and role, in IAM Identity "
            "Center; or the right names in the profile.",
        ),
        _row(
            "role-refused",
            "The role of the profile may not be assumed",
            explain(_refusal("AccessDenied", "AssumeRole"), _PROFILE),
            mends="A trust policy of the role that names the source, `sts:AssumeRole` "
            "for the source, and the external id where the role wants one.",
        ),
        _row(
            "assume-role-refused",
            "The role of `assume_role` may not be assumed",
            credentials.explain_assume_role(
                _refusal("AccessDenied", "AssumeRole"), _PROFILE, role_arn=_ROLE_ARN
            ),
            mends="As above; `external_id` is a key of `assume_role`.",
        ),
        _row(
            "web-identity-refused",
            "The service account's token is refused",
            explain(
                _refusal("InvalidIdentityToken", "AssumeRoleWithWebIdentity"), _CHAIN
            ),
            mends="A trust policy that names the cluster's issuer and this service "
            "account (EKS: IAM roles for service accounts).",
        ),
        _row(
            "source-expired",
            "The credentials behind a role have expired, or are not valid",
            explain(_refusal("ExpiredToken", "AssumeRole"), _PROFILE),
            mends="New keys, or a new login, for the source profile.",
        ),
        _row(
            "clock-refused-by-aws",
            "AWS refuses what is signed by this machine's clock",
            explain(
                _refusal("SignatureDoesNotMatch", "AssumeRole", "Signature expired: …"),
                _PROFILE,
            ),
            mends="The right time on this machine (NTP); nothing needs a restart.",
        ),
        _row(
            "mfa-wanted",
            "The role asks for an MFA code",
            credentials.needs_a_prompt(PROFILE, _PROFILE),
            mends="Another profile; or `aws sts get-session-token` with the code, and "
            "its result in the credentials file.",
        ),
        _row(
            "configuration-unusable",
            "The AWS configuration contradicts itself",
            explain(_raised("InvalidConfigError", "The source_profile …"), _PROFILE),
            mends="The AWS configuration file, where DETAIL says.",
        ),
        _row(
            "program-failed",
            "The credential process fails",
            explain(
                _raised(
                    "CredentialRetrievalError", kwargs={"provider": "custom-process"}
                ),
                _PROFILE,
            ),
            mends="Run the program of `credential_process` by hand. What it prints is "
            "kept out of errors and log, since it may be a secret.",
        ),
        _row(
            "program-missing",
            "A file or program of the profile is missing",
            explain(_FILE_MISSING, _PROFILE),
            mends="The file, or its name; in a container, the mount.",
        ),
        _row(
            "program-not-understood",
            "The source gives no valid answer",
            explain(ValueError(), _PROFILE),
            mends="The program has to print JSON with `Version`, `AccessKeyId`, "
            "`SecretAccessKey`, `SessionToken` and `Expiration`.",
        ),
        _row(
            "container-failed",
            "The container's credentials endpoint fails",
            explain(
                _raised(
                    "CredentialRetrievalError", kwargs={"provider": "container-role"}
                ),
                _CHAIN,
            ),
            mends="A role for the task (ECS), or for the service account (EKS Pod "
            "Identity).",
        ),
        _row(
            "aws-not-reached",
            "AWS cannot be reached for credentials",
            explain(_raised("HTTPClientError"), _PROFILE),
            mends="A way to the endpoints of STS and SSO; behind a proxy server, "
            "HTTPS_PROXY.",
        ),
        _row(
            "source-too-slow",
            "The source of the credentials does not answer",
            credentials.too_slow(8.0, _PROFILE),
            mends="As above, or a faster `credential_process`. A fetch goes on, and "
            "the next login may find it done.",
        ),
        _row(
            "source-hangs",
            "The source of the credentials hangs",
            credentials.too_many_hang(4, _PROFILE),
            mends="The end of what it waits for. Credentials that are held are "
            "used meanwhile, as long as they are valid.",
        ),
        _row(
            "found-expired",
            "The credentials that were found have expired",
            credentials.expired_when_fetched(_PROFILE),
            mends="Whatever writes the credentials has to write new ones.",
        ),
        _row(
            "not-renewed",
            "The credentials have expired and cannot be renewed",
            credentials.not_renewed(SSO_EXPIRED),
            mends="What the HINT says: it is that of the failure named in DETAIL.",
        ),
        _row(
            "put-aside",
            "The cluster refuses the credentials, and there are no others",
            credentials.put_aside("AKIA…MPLE", _PROFILE, CLUSTER),
            mends="New credentials; the proxy looks for them by itself and tries the "
            "old ones again after half a minute.",
        ),
    ),
)
