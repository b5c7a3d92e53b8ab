"""The AWS chain: finds credentials, and with `signer` alone knows botocore.

Everything here blocks: it reads files, runs programs and asks AWS, and the import
of botocore alone takes a quarter of a second. So it runs on threads, and nothing is
kept. Each `fetch` makes a new botocore session, because a session never reads the
files again, remembers "no credentials", and near their end refuses to sign with
credentials that are still valid. What comes out is frozen: whether and when to fetch
again is decided elsewhere.
"""

import logging
import os
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from dsqlproxy.aws.credentials import Credentials, Identity
from dsqlproxy.aws.programs import Programs
from dsqlproxy.aws.secret import Secret
from dsqlproxy.config.assume_role import AssumedRole
from dsqlproxy.errors import TokenError
from dsqlproxy.situations.credentials import (
    CredentialOrigin,
    explain,
    explain_assume_role,
    needs_a_prompt,
)

AWS_CALL_SECONDS: Final = 2.0
"""For connecting to STS or SSO, and for each answer; botocore's default is 60."""

_FAR_SECONDS: Final = 10 * 365 * 86_400.0
_CLOSE_SECONDS: Final = 0.01

_SOURCES: Final = {
    "env": "environment variables",
    "shared-credentials-file": "shared credentials file",
    "config-file": "AWS configuration file",
    "assume-role": "assumed role",
    "assume-role-with-web-identity": "web identity",
    "sso": "AWS SSO",
    "login": "aws login",
    "custom-process": "credential_process",
    "container-role": "container endpoint",
    "iam-role": "instance metadata",
}
"""botocore's names of its providers, in words; others are shown as they are."""


def origin_of(identity: Identity) -> CredentialOrigin:
    """Say where credentials are looked for, as far as it can be named beforehand."""
    if identity.given is not None:
        return CredentialOrigin(None, given=True)
    if identity.profile is not None:
        return CredentialOrigin(identity.profile, named_by="`profile`")
    # In botocore's order. Where keys stand beside it, the profile is not looked at,
    # but it has to exist.
    variables = ("AWS_DEFAULT_PROFILE", "AWS_PROFILE")
    name = next((each for each in variables if os.environ.get(each)), "")
    has_keys = os.environ.get("AWS_ACCESS_KEY_ID")
    return CredentialOrigin(None if has_keys else os.environ.get(name), named_by=name)


def fetch(
    identity: Identity, region: str, programs: Programs | None = None
) -> Credentials:
    """Find the credentials of an identity now; every failure is a `TokenError`.

    A profile that the user named goes before keys in the environment; one that only
    AWS_PROFILE names comes after them (as with every AWS SDK for Python).
    ``programs`` has the programs that this takes, while it waits for them.
    """
    origin = origin_of(identity)
    role = identity.assume_role
    try:
        # What a signer needs, so that the first login does not wait for the import.
        import boto3  # noqa: F401, PLC0415

        if identity.given is not None:
            base = Credentials(
                identity.given.access_key_id,
                identity.given.secret_access_key,
                identity.given.session_token,
            )
            if role is None:
                return base
            session = isolated_session(region)
        else:
            session = _user_session(identity.profile, region, programs or Programs())
            base = _find(session, identity, origin)
    except TokenError:
        raise
    except Exception as error:  # noqa: BLE001 - botocore raises from all trees
        # Not "from error": a traceback would print the foreign text.
        raise explain(error, origin) from None
    if role is None:
        return base
    try:
        return _assume(session, base, role, region=region)
    except Exception as error:  # noqa: BLE001 - as above
        raise explain_assume_role(error, origin, role_arn=role.role_arn) from None


def _frozen_for_botocore(credentials: Credentials) -> Any:
    from botocore.credentials import ReadOnlyCredentials  # noqa: PLC0415

    token = credentials.session_token
    return ReadOnlyCredentials(
        credentials.access_key_id,
        credentials.secret_access_key.reveal(),
        None if token is None else token.reveal(),
    )


# -- sessions --------------------------------------------------------------------------


def _user_session(profile: str | None, region: str, programs: Programs) -> Any:
    """Make a session that sees the user's files and environment as they are now."""
    import botocore.session  # noqa: PLC0415
    from botocore.credentials import ProcessProvider  # noqa: PLC0415

    session = botocore.session.Session(profile=profile)
    _configure(session, region)
    providers = session.get_component("credential_provider")
    # botocore says of an instance's credentials that are near their end that they
    # last up to 25 minutes longer, and a token must not outlive what signed it. The
    # names are private: without them it does just that.
    metadata = getattr(providers.get_provider("iam-role"), "_role_fetcher", None)
    if metadata is not None:
        metadata._evaluate_expiration = lambda _credentials: None  # noqa: SLF001

    def process_provider(profile_name: str) -> Any:
        return ProcessProvider(
            profile_name=profile_name,
            load_config=lambda: session.full_config,
            popen=programs.start,
        )

    providers.insert_before(
        "custom-process", process_provider(session.profile or "default")
    )
    # A role's source profile may have a credential process too, by a provider that
    # botocore makes when it comes to that. Again the names are private: without them
    # that one is run as botocore does it, with a terminal and without an end.
    role = providers.get_provider("assume-role")
    builder = getattr(role, "_profile_provider_builder", None)
    if builder is not None and hasattr(builder, "_create_process_provider"):
        builder._create_process_provider = process_provider  # noqa: SLF001
    return session


def isolated_session(region: str) -> Any:
    """Make a session that ignores the user's files.

    The demo must work where AWS_PROFILE names a profile that does not exist.
    """
    import botocore.session  # noqa: PLC0415

    session = botocore.session.Session(
        session_vars={"profile": (None, None, None, None)}
    )
    session.set_config_variable("config_file", os.devnull)
    session.set_config_variable("credentials_file", os.devnull)
    _configure(session, region)
    return session


@cache
def _models(data_path: str | None) -> Any:
    """Give what botocore knows of AWS's services, read once per process.

    To parse its endpoints alone holds the interpreter for 50 ms, in which no session
    moves a byte; without this, each fetch would.
    """
    from botocore.loaders import create_loader  # noqa: PLC0415

    return create_loader(data_path)


def _configure(session: Any, region: str) -> None:
    """Say where STS is asked, and bound each call."""
    from botocore.config import Config  # noqa: PLC0415

    _silence_botocore()
    models = _models(session.get_config_variable("data_path"))
    session.register_component("data_loader", models)
    session.set_config_variable("region", region)
    session.set_default_client_config(
        Config(
            connect_timeout=AWS_CALL_SECONDS,
            read_timeout=AWS_CALL_SECONDS,
            retries={"max_attempts": 1, "mode": "standard"},
        )
    )


def _silence_botocore() -> None:
    """Keep botocore out of the log at any level.

    At debug it writes what it signs, session token and signature included; its
    warnings carry tracebacks with whatever a credential process printed.
    """
    for name in ("boto3", "botocore", "s3transfer", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


# -- finding ---------------------------------------------------------------------------


def _find(session: Any, identity: Identity, origin: CredentialOrigin) -> Credentials:
    """Go through the chain and freeze what is found."""
    from botocore.exceptions import NoCredentialsError  # noqa: PLC0415

    _refuse_prompts(session, identity, origin)
    found = session.get_credentials()
    if found is None:
        raise NoCredentialsError
    method = str(found.method)
    if method != "login":
        # All but this one have just asked their source. With less than 15 minutes
        # left botocore would ask it again at once, and run a credential process
        # twice. Its names are private: without them it does just that.
        found._advisory_refresh_timeout = 0  # noqa: SLF001
        found._mandatory_refresh_timeout = 0  # noqa: SLF001
    frozen = found.get_frozen_credentials()
    return Credentials(
        frozen.access_key,
        Secret(frozen.secret_key),
        Secret(frozen.token) if frozen.token else None,
        expires_at=_expires_at(found),
        source=_SOURCES.get(method, method),
        role_arn=_role_arn(session, identity) if "assume-role" in method else "",
    )


def _expires_at(found: Any) -> float | None:
    """Ask when credentials expire, in whole seconds, rounded down.

    botocore tells only whether less than so much is left, so the time is found by
    halving: 35 questions, a tenth of a millisecond.
    """
    is_less_left = getattr(found, "refresh_needed", None)
    now = datetime.now(UTC).timestamp()
    if is_less_left is None or not is_less_left(_FAR_SECONDS):
        return None
    low, high = 0.0, _FAR_SECONDS
    while high - low > _CLOSE_SECONDS:
        middle = (low + high) / 2.0
        low, high = (low, middle) if is_less_left(middle) else (middle, high)
    return float(int(now + high + _CLOSE_SECONDS))


def _assume(
    session: Any, base: Credentials, role: AssumedRole, *, region: str
) -> Credentials:
    """Assume the role of our own configuration with what was found."""
    client = _sts_client(session, base, region=region)
    arguments = {"RoleArn": role.role_arn, "RoleSessionName": role.session_name}
    if role.external_id is not None:
        arguments["ExternalId"] = role.external_id
    try:
        answer = client.assume_role(**arguments)["Credentials"]
    finally:
        client.close()
    return Credentials(
        answer["AccessKeyId"],
        Secret(answer["SecretAccessKey"]),
        Secret(answer["SessionToken"]),
        expires_at=answer["Expiration"].timestamp(),
        source=f"assumed role, by {base.source}",
        role_arn=role.role_arn,
    )


def _sts_client(session: Any, credentials: Credentials, *, region: str) -> Any:
    keys = _frozen_for_botocore(credentials)
    return session.create_client(
        "sts",
        region_name=region,
        aws_access_key_id=keys.access_key,
        aws_secret_access_key=keys.secret_key,
        aws_session_token=keys.token,
    )


def caller_arn(credentials: Credentials, region: str) -> str | None:
    """Ask AWS whose credentials these are; None where it does not say.

    AWS documentation, GetCallerIdentity: no permission is needed for it.
    """
    try:
        client = _sts_client(isolated_session(region), credentials, region=region)
        try:
            return str(client.get_caller_identity()["Arn"])
        finally:
            client.close()
    except Exception:  # noqa: BLE001 - nice to know, and no more
        return None


# -- what the profiles say -------------------------------------------------------------


def _role_arn(session: Any, identity: Identity) -> str:
    """Find which role the chain assumed last."""
    profile = _profiles(session).get(session.profile or "default", {})
    from_environment = "" if identity.profile else os.environ.get("AWS_ROLE_ARN", "")
    if "web_identity_token_file" in profile or "role_arn" not in profile:
        return str(from_environment or profile.get("role_arn", ""))
    return str(profile["role_arn"])


def _refuse_prompts(session: Any, identity: Identity, origin: CredentialOrigin) -> None:
    """Refuse a role that wants an MFA code: botocore would ask on the terminal."""
    if identity.profile is None and os.environ.get("AWS_ACCESS_KEY_ID"):
        return  # the environment's keys win, the profile is not looked at
    profiles = _profiles(session)
    name = session.profile or "default"
    seen: set[str] = set()
    while name in profiles and name not in seen:
        profile = profiles[name]
        assumes_role = (
            "role_arn" in profile and "web_identity_token_file" not in profile
        )
        # Keys in a source profile are taken, and a role beside them is not assumed.
        if not assumes_role or (seen and _has_keys(profile)):
            return
        if "mfa_serial" in profile:
            raise needs_a_prompt(name, origin)
        seen.add(name)
        name = profile.get("source_profile", "")


def _has_keys(profile: dict[str, Any]) -> bool:
    return "aws_access_key_id" in profile or "aws_secret_access_key" in profile


def _profiles(session: Any) -> dict[str, dict[str, Any]]:
    profiles: dict[str, dict[str, Any]] = session.full_config.get("profiles", {})
    return profiles
