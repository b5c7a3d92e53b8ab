"""IAM authentication tokens: the only file that knows boto3.

A token is a URL signed with SigV4 that a cluster takes as a password. Signing is
local and takes a fifth of a millisecond, but finding the credentials may read
files, run programs or ask AWS, and it blocks: so all of it, the import of boto3
(a quarter of a second) included, happens on threads of its own.

One token is signed for each upstream login and none is kept: the cluster looks at
it at connect only (AWS documentation, "Generating an authentication token").
"""

import asyncio
import logging
import os
import threading
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from dsqlproxy.dsql import (
    ADMIN_ROLE,
    MAX_TOKEN_LIFETIME_SECONDS,
    MIN_TOKEN_LIFETIME_SECONDS,
)
from dsqlproxy.errors import ShuttingDown, TokenError
from dsqlproxy.upstream.credential_errors import (
    CredentialOrigin,
    explain,
    needs_a_prompt,
    too_slow,
)
from dsqlproxy.upstream.workers import Workers

_AWS_CALL_SECONDS = 2.0
"""For connecting to STS or SSO, and for each answer; botocore's default is 60."""


@dataclass(frozen=True, slots=True)
class StaticCredentials:
    """Credentials that are given instead of looked for: for the demo and tests."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class SigningRequest:
    """For which cluster, database role and span a token is wanted."""

    host: str
    region: str
    role: str
    lifetime_seconds: int

    def __post_init__(self) -> None:
        shortest, longest = MIN_TOKEN_LIFETIME_SECONDS, MAX_TOKEN_LIFETIME_SECONDS
        if not shortest <= self.lifetime_seconds <= longest:
            raise TokenError(
                "the token lifetime is out of range",
                detail=f"{self.lifetime_seconds} s was asked for.",
                hint="Set `token_lifetime` to between 1s and 7d.",
            )
        if not (self.host and self.region and self.role):
            raise TokenError("a token needs a host, a Region and a role")


class Token:
    """A signed token. Printing it shows what it is for; `reveal` gives its value."""

    __slots__ = ("_value", "lifetime_seconds", "role")

    def __init__(self, value: str, *, role: str, lifetime_seconds: int) -> None:
        self._value = value
        self.role = role
        self.lifetime_seconds = lifetime_seconds

    def reveal(self) -> str:
        """Give the value, to be sent to the cluster and nowhere else."""
        return self._value

    def __repr__(self) -> str:
        return f"<token for role {self.role}, {self.lifetime_seconds} s>"

    def __reduce__(self) -> str:
        # A pickle is a print by another name.
        raise TypeError("a token cannot be pickled")


class _Signer(Protocol):
    """What is used of boto3's client; boto3 has no types of its own."""

    def generate_db_connect_admin_auth_token(
        self,
        Hostname: str,  # noqa: N803 - boto3's names
        Region: str,  # noqa: N803
        ExpiresIn: int,  # noqa: N803
    ) -> str: ...

    def generate_db_connect_auth_token(
        self,
        Hostname: str,  # noqa: N803
        Region: str,  # noqa: N803
        ExpiresIn: int,  # noqa: N803
    ) -> str: ...


class TokenSource:
    """Signs tokens for one AWS identity; whoever makes it calls `close`.

    A client is built once per Region and kept, since that costs a hundred times
    what signing does. It is dropped after any failure and by `forget`: static keys
    and "no credentials" are otherwise remembered for its whole life, and the user
    who has just run ``aws configure`` would have to restart the proxy.
    """

    def __init__(
        self,
        *,
        profile: str | None = None,
        credentials: StaticCredentials | None = None,
        workers: int = 2,
        timeout_seconds: float = 8.0,
    ) -> None:
        self._profile = profile
        self._credentials = credentials
        # Less than the default connect_timeout, so that the error that names the
        # credentials comes before the one that only knows that time ran out.
        self._timeout_seconds = timeout_seconds
        # More than one: a thread that waits for AWS cannot be called back.
        self._workers = Workers(workers, name="token")
        self._clients: dict[str, _Signer] = {}
        self._generation = 0
        self._lock = threading.Lock()  # guards the two above
        self._building = threading.Lock()  # a hundred logins build one client
        self._closed = False

    async def sign(self, request: SigningRequest) -> Token:
        """Sign a token; `TokenError` says which credentials were tried and why not."""
        if self._closed:
            raise ShuttingDown("the proxy is shutting down")
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._workers.run(partial(self._sign, request))
        except TimeoutError:
            raise too_slow(self._timeout_seconds, self._origin) from None

    async def prewarm(self, region: str) -> None:
        """Import boto3 and build the client now, not at the first login.

        Never fails: the first `sign` meets the same trouble and has someone to
        tell it to.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._workers.run(partial(self._client, region))
        except Exception:  # noqa: BLE001 - see above
            self.forget()

    def forget(self) -> None:
        """Build the clients anew: the cluster refused what these credentials signed."""
        with self._lock:
            self._generation += 1
            self._clients.clear()

    def close(self) -> None:
        """Let the threads end; waits for none of them."""
        self._closed = True
        self._workers.close()

    @property
    def _origin(self) -> CredentialOrigin:
        """Where credentials are looked for, as far as it can be named."""
        if self._credentials is not None:
            return CredentialOrigin(None, given=True)
        if self._profile is not None or "AWS_ACCESS_KEY_ID" in os.environ:
            return CredentialOrigin(self._profile)
        return CredentialOrigin(
            os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE")
        )

    def _sign(self, request: SigningRequest) -> Token:
        """Sign, on a thread; every failure becomes a `TokenError`."""
        try:
            client = self._client(request.region)
            if request.role == ADMIN_ROLE:
                sign = client.generate_db_connect_admin_auth_token
            else:
                sign = client.generate_db_connect_auth_token
            value = sign(
                Hostname=request.host,
                Region=request.region,
                ExpiresIn=request.lifetime_seconds,
            )
        except TokenError:
            self.forget()
            raise
        except Exception as error:  # noqa: BLE001 - botocore raises from all trees
            self.forget()
            # Not "from error": a traceback would print the foreign text.
            raise explain(error, self._origin) from None
        return Token(
            value, role=request.role, lifetime_seconds=request.lifetime_seconds
        )

    def _client(self, region: str) -> _Signer:
        """Give the Region's client, built by one thread while the others wait."""
        with self._building:
            with self._lock:
                generation = self._generation
                client = self._clients.get(region)
            if client is None:
                client = self._build_client(region)
                with self._lock:
                    # Forgotten meanwhile: good for this once, not for keeping.
                    if generation == self._generation:
                        self._clients[region] = client
            return client

    def _build_client(self, region: str) -> _Signer:
        """Make a session and a client; reads the AWS files and the environment."""
        # Here, so that starting the proxy does not wait for it.
        import boto3  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415

        _silence_botocore()
        core = _core_session(isolated=self._credentials is not None)
        core.set_default_client_config(
            Config(
                connect_timeout=_AWS_CALL_SECONDS,
                read_timeout=_AWS_CALL_SECONDS,
                retries={"max_attempts": 1, "mode": "standard"},
            )
        )
        if self._credentials is not None:
            session = boto3.Session(
                aws_access_key_id=self._credentials.access_key_id,
                aws_secret_access_key=self._credentials.secret_access_key,
                aws_session_token=self._credentials.session_token or None,
                botocore_session=core,
            )
        else:
            # A profile that the user named goes before keys in the environment;
            # one that only AWS_PROFILE names comes after them.
            session = boto3.Session(profile_name=self._profile, botocore_session=core)
            self._refuse_prompts(core)
        client: _Signer = session.client("dsql", region_name=region)
        return client

    def _refuse_prompts(self, core: Any) -> None:
        """Refuse a role that wants an MFA code: botocore would ask on the terminal."""
        if self._profile is None and "AWS_ACCESS_KEY_ID" in os.environ:
            return  # the environment's keys win, the profile is not looked at
        profiles: dict[str, dict[str, Any]] = core.full_config.get("profiles", {})
        name = core.profile or "default"
        seen: set[str] = set()
        while name in profiles and name not in seen:
            seen.add(name)
            profile = profiles[name]
            assumes_role = (
                "role_arn" in profile and "web_identity_token_file" not in profile
            )
            if not assumes_role:
                return
            if "mfa_serial" in profile:
                raise needs_a_prompt(name, self._origin)
            name = profile.get("source_profile", "")


def _core_session(*, isolated: bool) -> Any:
    """Make a botocore session; isolated, it ignores the user's AWS files."""
    import botocore.session  # noqa: PLC0415

    if not isolated:
        return botocore.session.Session()
    # The demo must work where AWS_PROFILE names a profile that does not exist.
    core = botocore.session.Session(session_vars={"profile": (None, None, None, None)})
    core.set_config_variable("config_file", os.devnull)
    core.set_config_variable("credentials_file", os.devnull)
    return core


def _silence_botocore() -> None:
    """Keep botocore out of the log at any level.

    At debug it writes what it signs, session token and signature included; its
    warnings carry tracebacks with whatever a credential process printed.
    """
    for name in ("boto3", "botocore", "s3transfer", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
