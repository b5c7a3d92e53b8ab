"""What botocore raises when credentials are missing, told as a `TokenError`.

A table from exception to words, without importing botocore: classes are known by
their names. Nothing of a foreign exception's text is repeated, since it may hold
what a credential process printed; only names that the user wrote are.
"""

from dataclasses import dataclass
from typing import Any

from dsqlproxy.errors import TokenError

AFTERWARDS = "The proxy takes up the change without a restart."
"""The end of some hints; a command that signs one token has nothing to restart."""


@dataclass(frozen=True, slots=True)
class CredentialOrigin:
    """Where credentials are looked for: in a profile, in the usual chain, or given."""

    profile: str | None
    given: bool = False

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
        "could not sign a token",
        detail=f"{origin.subject} failed with {type(error).__name__}.",
        hint=f"{origin.command('sts get-caller-identity')} shows the reason.",
    )


def too_slow(seconds: float, origin: CredentialOrigin) -> TokenError:
    """Say that the source of the credentials does not answer."""
    return TokenError(
        "no AWS credentials in time",
        detail=f"{origin.subject} did not answer within {seconds:g} s.",
        hint="Is there a way to AWS from here? "
        f"{origin.command('sts get-caller-identity')} should answer at once.",
    )


def needs_a_prompt(profile: str, origin: CredentialOrigin) -> TokenError:
    """Refuse a profile whose role asks for a code on the terminal."""
    return TokenError(
        "the AWS profile asks for an MFA code, which a proxy cannot type",
        detail=f"{origin.subject} leads to profile {profile!r}, which has mfa_serial.",
        hint="Set `profile` to one without mfa_serial, for example one for "
        "`aws sso login`, or export temporary credentials.",
    )


def _no_credentials(_error: Exception, origin: CredentialOrigin) -> TokenError:
    return TokenError(
        "no AWS credentials",
        detail=f"Nothing was found in {origin}.",
        hint=f"Run {origin.command('configure')} or `aws sso login`, or set "
        f"`profile`. {AFTERWARDS}",
    )


def _profile_missing(error: Exception, origin: CredentialOrigin) -> TokenError:
    name = _named(error, "profile") or origin.profile or "default"
    return TokenError(
        f"there is no AWS profile {name!r}",
        detail="It is in neither the AWS configuration nor the credentials file.",
        hint="`aws configure list-profiles` lists them; set `profile`, or run "
        f"`aws configure --profile {name}`. {AFTERWARDS}",
    )


def _partial(error: Exception, origin: CredentialOrigin) -> TokenError:
    missing = _named(error, "cred_var") or "secret key"
    return TokenError(
        "the AWS credentials are incomplete",
        detail=f"{origin.subject} has no {missing} "
        f"(found in: {_named(error, 'provider')}).",
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
        hint='Run `pip install "botocore[crt]"` where the proxy is installed.',
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
    return TokenError(
        "the AWS credentials could not be fetched",
        detail=f"{origin.subject} uses {provider}, which failed.",
        hint=f"{origin.command('sts get-caller-identity')} shows the reason.",
    )


def _process_failed(_error: Exception, origin: CredentialOrigin) -> TokenError:
    return TokenError(
        "the AWS credentials could not be fetched",
        detail=f"{origin.subject} names a program or a file that does not exist, "
        "cannot be used or gave no valid answer (credential_process, "
        "web_identity_token_file).",
        hint=f"{origin.command('sts get-caller-identity')} shows the reason.",
    )


def _prompted(_error: Exception, origin: CredentialOrigin) -> TokenError:
    return needs_a_prompt(origin.profile or "default", origin)


def _refused_by_aws(error: Exception, origin: CredentialOrigin) -> TokenError:
    operation = getattr(error, "operation_name", "a request")
    code = _response_code(error)
    if "Expired" in code:
        return TokenError(
            "the AWS credentials have expired",
            detail=f"{origin.subject}: AWS answered {code} to {operation}.",
            hint=f"Run {origin.command('sso login')}, or renew the keys. {AFTERWARDS}",
        )
    return TokenError(
        f"AWS refused {operation}",
        detail=f"{origin.subject}: AWS answered {code}.",
        hint="Check the role's trust policy and the permissions of its source; "
        f"{origin.command('sts get-caller-identity')} should succeed.",
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
    )


def _named(error: Exception, key: str) -> str:
    """Take one of the values from which botocore forms its text."""
    kwargs: dict[str, Any] = getattr(error, "kwargs", {})
    return str(kwargs.get(key, ""))


def _response_code(error: Exception) -> str:
    """Take the error code out of a ClientError, and nothing else."""
    response: dict[str, Any] = getattr(error, "response", {})
    code = response.get("Error", {}).get("Code")
    return str(code or "an error")


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
    "JSONDecodeError": _process_failed,
    "EOFError": _prompted,
    "ClientError": _refused_by_aws,
    "HTTPClientError": _unreachable,
    "ConnectionError": _unreachable,
    "NoRegionError": _bad_region,
    "InvalidRegionError": _bad_region,
    "OSError": _process_failed,
}
