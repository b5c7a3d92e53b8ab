"""A home directory with AWS's files in it, written as its tools write them.

Every file is replaced as a whole, so that a reader sees the old one or the new one.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from configparser import ConfigParser
from pathlib import Path
from typing import Any

from dsqlproxy.emulator.sigv4 import AccessKey
from tests.kit.aws_stand_ins.mint import ACCOUNT, iso_time
from tests.kit.aws_stand_ins.sso import REGION, START_URL, SsoTokens

SSO_SESSION = "example"


class Home:
    """``~/.aws`` of a person, in a directory of a test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._aws = directory / ".aws"
        self.config_file = self._aws / "config"
        self.credentials_file = self._aws / "credentials"
        self.sso_cache = self._aws / "sso" / "cache"
        self.web_identity_token_file = directory / "web-identity-token"
        self.container_token_file = directory / "container-token"
        self.sso_cache.mkdir(parents=True, exist_ok=True)

    def environment(self) -> dict[str, str]:
        """Give the variables by which AWS's libraries find these files."""
        return {
            "HOME": str(self.directory),
            "AWS_CONFIG_FILE": str(self.config_file),
            "AWS_SHARED_CREDENTIALS_FILE": str(self.credentials_file),
        }

    # -- profiles ------------------------------------------------------------------

    def profile(self, name: str = "default", **settings: str) -> None:
        """Write a profile to the config file, in the place of what it was."""
        section = name if name == "default" else f"profile {name}"
        _write_section(self.config_file, section, settings)

    def keys(self, key: AccessKey, profile: str = "default") -> None:
        """Write keys to the credentials file, in the place of those of the profile."""
        settings = {
            "aws_access_key_id": key.access_key_id,
            "aws_secret_access_key": key.secret_access_key,
        }
        if key.session_token:
            settings["aws_session_token"] = key.session_token
        _write_section(self.credentials_file, profile, settings)

    def sso_profile(
        self,
        name: str = "default",
        *,
        role_name: str = "Developer",
        session: str | None = SSO_SESSION,
    ) -> None:
        """Write a profile as ``aws configure sso`` does; session None: a legacy one."""
        role = {"sso_account_id": ACCOUNT, "sso_role_name": role_name}
        where = {"sso_start_url": START_URL, "sso_region": REGION}
        if session is None:
            self.profile(name, **role, **where)
        else:
            self.profile(name, **role, sso_session=session)
            _write_section(
                self.config_file,
                f"sso-session {session}",
                {**where, "sso_registration_scopes": "sso:account:access"},
            )

    # -- signing in ----------------------------------------------------------------

    def sso_cache_file(self, session: str | None = SSO_SESSION) -> Path:
        """Give the file of a sign-in: of an sso-session, or with None of legacy."""
        name = hashlib.sha1(  # noqa: S324 - this is how AWS names the files
            (START_URL if session is None else session).encode()
        ).hexdigest()
        return self.sso_cache / f"{name}.json"

    def sign_in(
        self,
        tokens: SsoTokens,
        *,
        session: str | None = SSO_SESSION,
        has_refresh_token: bool | None = None,
    ) -> None:
        """Write what ``aws sso login`` writes.

        A legacy sign-in comes without a refresh token unless one is asked for.
        """
        if has_refresh_token is None:
            has_refresh_token = session is not None
        written = {
            "startUrl": START_URL,
            "region": REGION,
            "accessToken": tokens.access_token,
            "expiresAt": iso_time(tokens.expires_at),
            "clientId": tokens.client_id,
            "clientSecret": tokens.client_secret,
            "registrationExpiresAt": iso_time(tokens.registration_expires_at),
        }
        if has_refresh_token:
            written["refreshToken"] = tokens.refresh_token
        replace(self.sso_cache_file(session), json.dumps(written))

    def sign_out(self, session: str | None = SSO_SESSION) -> None:
        """Remove what ``aws sso logout`` removes."""
        self.sso_cache_file(session).unlink(missing_ok=True)

    def sso_cached(self, session: str | None = SSO_SESSION) -> Mapping[str, Any]:
        """Give what is written of a sign-in: a refresh is written, too."""
        return dict(json.loads(self.sso_cache_file(session).read_text()))


def replace(file: Path, text: str) -> None:
    """Put a new file, readable by its owner, in the place of the old."""
    new = file.with_name(f"{file.name}.new")
    new.touch(mode=0o600)
    new.write_text(text)
    os.replace(new, file)


def _write_section(file: Path, section: str, settings: Mapping[str, str]) -> None:
    parser = ConfigParser(default_section="none of AWS's", interpolation=None)
    parser.read(file)
    parser[section] = settings
    new = file.with_name(f"{file.name}.new")
    with new.open("w") as stream:
        parser.write(stream)
    os.replace(new, file)
