"""What is wrong with the AWS credentials, told as a `TokenError`.

What botocore raises is a table from exception to words, without importing botocore:
classes are known by their names. Nothing of a foreign exception's text is repeated,
since it may hold what a credential process printed; only names that the user wrote
are: of profiles, files and roles.

Each says which source was tried and what mends it. ``may_pass`` is False where only
another configuration of the proxy does.
"""

from dataclasses import dataclass
from typing import Any

from dsqlproxy.errors import TokenError
from dsqlproxy.situations.credential_sources import FILES, ON_EC2, PROVIDERS
from dsqlproxy.situations.restart import AFTERWARDS, AND_RESTART, THEN_RESTART


@dataclass(frozen=True, slots=True)
class CredentialOrigin:
    """Where credentials are looked for: in a profile, in the usual chain, or given."""

    profile: str | None
    given: bool = False
    named_by: str = ""
    """What names the profile: a key of the configuration, or a variable."""

    def __str__(self) -> str:
        """Name the source as a sentence needs it."""
        if self.given:
            return "the credentials given to the proxy"
        if self.profile is not None:
            return f"AWS profile {self.profile!r}"
        return "the usual AWS chain (environment, default profile, container, instance)"

    @property
    def subject(self) -> str:
        """Name the source at the beginning of a sentence."""
        name = str(self)
        return name[0].upper() + name[1:]

    def command(self, words: str) -> str:
        """Give the ``aws`` command line for this profile, in backquotes."""
        suffix = "" if self.profile is None else f" --profile {self.profile}"
        return f"`aws {words}{suffix}`"


def explain(error: Exception, origin: CredentialOrigin) -> TokenError:
    """Say which source was tried, what is wrong with it, and what mends it."""
    for known in type(error).__mro__:
        tell = _TABLE.get(known.__name__)
        if tell is not None:
            return tell(error, origin)
    return TokenError(
        "could not get AWS credentials",
        detail=f"{origin.subject} failed with {type(error).__name__}.",
        hint=f"{origin.command('sts get-caller-identity')} shows the reason.",
    )


def explain_assume_role(
    error: Exception, origin: CredentialOrigin, *, role_arn: str
) -> TokenError:
    """Say why the role of the key ``assume_role`` could not be assumed."""
    code = _response_code(error)
    is_about_keys = "Expired" in code or code in _UNKNOWN_KEYS
    if not code or is_about_keys:
        # STS was not reached, or it is not the role that is wrong.
        return explain(error, origin)
    return TokenError(
        "the role of `assume_role` could not be assumed",
        detail=f"With {origin}, AWS answered {code} to AssumeRole of {role_arn}.",
        hint=f"Allow sts:AssumeRole on {role_arn} to the identity of these "
        "credentials, let the role's trust policy name it, and check the external id.",
    )


# -- what is known without botocore ----------------------------------------------------


def too_slow(seconds: float, origin: CredentialOrigin) -> TokenError:
    """Say that the source of the credentials does not answer."""
    return TokenError(
        "no AWS credentials in time",
        detail=f"{origin.subject} did not answer within {round(seconds, 2):g} s.",
        hint="Is there a way to AWS from here? "
        f"{origin.command('sts get-caller-identity')} should answer at once.",
    )


def too_many_hang(count: int, origin: CredentialOrigin) -> TokenError:
    """Say that the source hangs, and is not asked again before it answers."""
    return TokenError(
        "the source of the AWS credentials hangs",
        detail=f"{origin.subject} was asked {count} times and never answered.",
        hint="See what it waits for: a file on a network that is gone, for example. "
        "The proxy asks again as soon as one of the calls comes back.",
    )


def not_renewed(trouble: TokenError) -> TokenError:
    """Say that credentials have expired, and why there are no others."""
    return TokenError(
        "the AWS credentials have expired and cannot be renewed",
        detail=f"The last try: {trouble.message}. {trouble.detail}".rstrip(),
        hint=trouble.hint,
        may_pass=trouble.may_pass,
    )


def expired_when_fetched(origin: CredentialOrigin) -> TokenError:
    """Say that only credentials were found which have expired."""
    return TokenError(
        "the AWS credentials have expired",
        detail=f"{origin.subject} gave credentials that have expired already.",
        hint=f"Renew them (`aws sso login`, or whatever writes them), and check this "
        f"machine's clock. {AFTERWARDS}",
    )


def put_aside(
    short_id: str, origin: CredentialOrigin, cluster: str | None = None
) -> TokenError:
    """Say that the cluster does not take what is found."""
    which = "" if cluster is None else f" for {cluster}"
    return TokenError(
        "the cluster refuses the AWS credentials",
        detail=f"{origin.subject} gives {short_id}, which are put aside{which}: "
        "expired, deactivated or unknown to AWS.",
        hint=f"Run {origin.command('sso login')}, or renew the keys. {AFTERWARDS}",
    )


def needs_a_prompt(profile: str, origin: CredentialOrigin) -> TokenError:
    """Refuse a profile whose role asks for a code on the terminal."""
    return TokenError(
        "the AWS profile asks for an MFA code, which a proxy cannot type",
        detail=f"{origin.subject} leads to profile {profile!r}, which has mfa_serial.",
        hint="Put temporary credentials into ~/.aws/credentials; or set `profile` to "
        f"one without mfa_serial, for example one for `aws sso login`,{AND_RESTART}.",
    )


# -- what botocore raises --------------------------------------------------------------


def _no_credentials(_error: Exception, origin: CredentialOrigin) -> TokenError:
    return TokenError(
        "no AWS credentials",
        detail=f"Nothing was found in {origin}.",
        hint=f"Run {origin.command('configure')} or `aws sso login`, or set "
        f"`profile`{AND_RESTART}; on EC2 {ON_EC2}. {AFTERWARDS}",
    )


def _profile_missing(error: Exception, origin: CredentialOrigin) -> TokenError:
    name = _named(error, "profile") or origin.profile or "default"
    named = f"It is named by {origin.named_by}, and is" if origin.named_by else "It is"
    return TokenError(
        f"there is no AWS profile {name!r}",
        detail=f"{named} in neither the AWS configuration nor the credentials file.",
        hint=f"Add it (`aws configure --profile {name}`), or correct "
        f"{origin.named_by or 'its name'}{AND_RESTART}; "
        f"`aws configure list-profiles` lists what there is. {AFTERWARDS}",
    )


def _partial(error: Exception, origin: CredentialOrigin) -> TokenError:
    missing = _named(error, "cred_var") or "secret key"
    provider = _named(error, "provider")
    if provider == "env":
        return TokenError(
            "the AWS credentials are incomplete",
            detail=f"AWS_ACCESS_KEY_ID is set in the environment, {missing} is not.",
            hint="Set both, or unset AWS_ACCESS_KEY_ID to use the profile"
            f"{THEN_RESTART}.",
            may_pass=False,
        )
    return TokenError(
        "the AWS credentials are incomplete",
        detail=f"{origin.subject} has no {missing} in "
        f"{FILES.get(provider, 'the AWS files')}.",
        hint=f"Set {missing}, or run {origin.command('configure')}. {AFTERWARDS}",
    )


def _sso_expired(_error: Exception, origin: CredentialOrigin) -> TokenError:
    return TokenError(
        "the AWS SSO session has expired or was never begun",
        detail=f"Tried: {origin}.",
        hint=f"Run {origin.command('sso login')}. {AFTERWARDS}",
    )


def _login_expired(_error: Exception, origin: CredentialOrigin) -> TokenError:
    return TokenError(
        "the AWS login session has expired or was never begun",
        detail=f"Tried: {origin}.",
        hint=f"Run {origin.command('login')}. {AFTERWARDS}",
    )


def _token_retrieval(error: Exception, origin: CredentialOrigin) -> TokenError:
    login = _named(error, "provider") == "login"
    return _login_expired(error, origin) if login else _sso_expired(error, origin)


def _crt_missing(_error: Exception, origin: CredentialOrigin) -> TokenError:
    return TokenError(
        "the AWS profile needs a package that is not installed",
        detail=f"{origin.subject} uses `aws login`, which needs botocore's extra "
        "`crt`.",
        hint='Run `pip install "botocore[crt]"` where the proxy is installed'
        f"{AND_RESTART}.",
        may_pass=False,
    )


def _bad_configuration(error: Exception, origin: CredentialOrigin) -> TokenError:
    reason = next(
        (
            f"its {key} names something that does not exist"
            for key in ("sso-session", "source_profile", "credential_source")
            if key in str(error)
        ),
        "it contradicts itself or cannot be parsed",
    )
    return TokenError(
        "the AWS configuration cannot be used",
        detail=f"Tried: {origin}; {reason}.",
        hint=f"Correct it in the AWS configuration file; "
        f"{origin.command('configure list')} shows what is found. {AFTERWARDS}",
    )


def _retrieval_failed(error: Exception, origin: CredentialOrigin) -> TokenError:
    provider = _named(error, "provider") or "a source of credentials"
    words, hint = PROVIDERS.get(provider, (provider, ""))
    return TokenError(
        "the AWS credentials could not be fetched",
        detail=f"{origin.subject} uses {words}, which failed.",
        hint=hint or f"{origin.command('sts get-caller-identity')} shows the reason.",
    )


def _file_or_program(error: Exception, origin: CredentialOrigin) -> TokenError:
    name = getattr(error, "filename", None)
    named = f"{str(name)!r}, a file or program that" if name else "a file or program"
    return TokenError(
        "the AWS credentials could not be fetched",
        detail=f"{origin.subject} leads to {named} does not exist or cannot be used "
        "(credential_process, web_identity_token_file, "
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE).",
        hint=f"Correct the name, or see that the proxy may read it. {AFTERWARDS}",
    )


def _not_an_answer(_error: Exception, origin: CredentialOrigin) -> TokenError:
    return TokenError(
        "the AWS credentials could not be fetched",
        detail=f"{origin.subject} gave no valid answer (credential_process, container "
        "endpoint).",
        hint=f"{origin.command('sts get-caller-identity')} shows the reason.",
    )


def _failed_at_run_time(error: Exception, origin: CredentialOrigin) -> TokenError:
    if "still expired" in str(error):  # what botocore says of what it has fetched
        return expired_when_fetched(origin)
    return _not_an_answer(error, origin)


def _prompted(_error: Exception, origin: CredentialOrigin) -> TokenError:
    return needs_a_prompt(origin.profile or "default", origin)


def _refused_by_aws(error: Exception, origin: CredentialOrigin) -> TokenError:
    if _is_about_the_clock(error):
        return _clock_differs(origin)
    operation = getattr(error, "operation_name", "a request")
    code = _response_code(error) or "an error"
    said = f"{origin.subject}: AWS answered {code} to {operation}."
    if operation == "AssumeRoleWithWebIdentity":
        return TokenError(
            "AWS refused the web identity",
            detail=said,
            hint="Check that the token file (AWS_WEB_IDENTITY_TOKEN_FILE) is renewed "
            "and that the role's trust policy names its issuer and subject.",
        )
    if operation == "GetRoleCredentials":
        return TokenError(
            "AWS SSO refused the role",
            detail=said,
            hint="Check sso_account_id and sso_role_name of the profile, and that the "
            f"user is assigned to both; or run {origin.command('sso login')}. "
            f"{AFTERWARDS}",
        )
    if "Expired" in code or code in _UNKNOWN_KEYS:
        return TokenError(
            "the AWS credentials have expired or are not valid",
            detail=said,
            hint=f"Run {origin.command('sso login')}, or renew the keys. {AFTERWARDS}",
        )
    return TokenError(
        f"AWS refused {operation}",
        detail=said,
        hint="Check the role's trust policy, its external id, and that the source may "
        f"sts:AssumeRole; {origin.command('sts get-caller-identity')} should succeed.",
    )


_UNKNOWN_KEYS = frozenset(("InvalidClientTokenId", "SignatureDoesNotMatch"))
"""What AWS answers to keys that are deleted, deactivated or mistyped."""


def _is_about_the_clock(error: Exception) -> bool:
    # The code is that of a wrong secret key; the words tell them apart.
    is_late = any(
        word in str(error) for word in ("Signature expired", "not yet current")
    )
    return _response_code(error) == "SignatureDoesNotMatch" and is_late


def _clock_differs(origin: CredentialOrigin) -> TokenError:
    return TokenError(
        "AWS refuses what is signed by this machine's clock",
        detail=f"{origin.subject}: AWS answered that the signature is expired or from "
        "the future, so its clock and this machine's differ by minutes.",
        hint="Set this machine's clock (NTP).",
    )


def _unreachable(_error: Exception, origin: CredentialOrigin) -> TokenError:
    return TokenError(
        "AWS could not be reached to fetch credentials",
        detail=f"{origin.subject} needs a call to AWS, which was not answered.",
        hint="Check the network, a proxy variable such as HTTPS_PROXY, and "
        f"{origin.command('sts get-caller-identity')}.",
    )


def _bad_region(_error: Exception, _origin: CredentialOrigin) -> TokenError:
    return TokenError(
        "the AWS Region to sign for is missing or malformed",
        hint="Set `region`, for example us-east-1.",
        may_pass=False,
    )


def _named(error: Exception, key: str) -> str:
    """Take one of the values from which botocore forms its text."""
    kwargs: dict[str, Any] = getattr(error, "kwargs", {})
    return str(kwargs.get(key, ""))


def _response_code(error: Exception) -> str:
    """Take the error code out of a ClientError; others have none."""
    response: dict[str, Any] = getattr(error, "response", {})
    return str(response.get("Error", {}).get("Code", ""))


# Names of classes, the most derived first found wins (the order of the MRO). They
# were each provoked in a clean process with botocore 1.44.
_TABLE = {
    "NoCredentialsError": _no_credentials,
    "ProfileNotFound": _profile_missing,
    "PartialCredentialsError": _partial,
    "UnauthorizedSSOTokenError": _sso_expired,
    "SSOError": _sso_expired,
    "NoAuthTokenError": _sso_expired,
    "TokenRetrievalError": _token_retrieval,
    "LoginError": _login_expired,
    "MissingDependencyException": _crt_missing,
    "InvalidConfigError": _bad_configuration,
    "InfiniteLoopConfigError": _bad_configuration,
    "ConfigParseError": _bad_configuration,
    "ConfigNotFound": _bad_configuration,
    "CredentialRetrievalError": _retrieval_failed,
    "UnknownCredentialError": _bad_configuration,
    "EOFError": _prompted,
    "ClientError": _refused_by_aws,
    "HTTPClientError": _unreachable,
    "ConnectionError": _unreachable,
    "NoRegionError": _bad_region,
    "InvalidRegionError": _bad_region,
    "RuntimeError": _failed_at_run_time,
    "ValueError": _not_an_answer,  # a JSONDecodeError is one
    "KeyError": _not_an_answer,
    "OSError": _file_or_program,
}
