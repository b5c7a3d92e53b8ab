"""Signs tokens: boto3's own generator, for one set of credentials in one Region."""

from typing import Any, Protocol

from dsqlproxy.aws.chain import isolated_session
from dsqlproxy.aws.credentials import Credentials
from dsqlproxy.aws.secret import Secret
from dsqlproxy.dsql import ADMIN_ROLE


class _Client(Protocol):
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


class Signer:
    """Signs with credentials that it never renews; to make one takes 10 ms.

    The first of a process takes ten times that, for the import. All of it blocks, so
    it happens on a thread.
    """

    def __init__(self, credentials: Credentials, region: str) -> None:
        import boto3  # noqa: PLC0415 - see above

        token = credentials.session_token
        session: Any = boto3.Session(
            aws_access_key_id=credentials.access_key_id,
            aws_secret_access_key=credentials.secret_access_key.reveal(),
            aws_session_token=None if token is None else token.reveal(),
            botocore_session=isolated_session(region),
        )
        self._client: _Client = session.client("dsql", region_name=region)
        self._region = region
        self.credentials = credentials

    def sign(self, *, host: str, role: str, lifetime_seconds: int) -> Secret:
        """Sign a token: the URL of a request that is never made, without its scheme."""
        client = self._client
        if role == ADMIN_ROLE:
            sign = client.generate_db_connect_admin_auth_token
        else:
            sign = client.generate_db_connect_auth_token
        return Secret(
            sign(Hostname=host, Region=self._region, ExpiresIn=lifetime_seconds)
        )
