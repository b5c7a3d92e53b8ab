"""What an operator learns of credentials and tokens: counted, and in the log."""

from dsqlproxy.aws.cluster_tokens import ClusterTokens
from dsqlproxy.aws.credentials import Credentials
from dsqlproxy.aws.tokens import SigningRequest, Token
from dsqlproxy.errors import TokenError
from dsqlproxy.ops.log import EventLog
from dsqlproxy.ops.metrics import Metrics, TokenOutcome
from dsqlproxy.situations.cluster import Cause


class MeteredTokens:
    """A cluster's tokens, counted; the cluster's side does not know the counters."""

    def __init__(
        self, source: ClusterTokens, *, metrics: Metrics, log: EventLog
    ) -> None:
        self._source = source
        self._metrics = metrics
        self._log = log

    async def sign(self, request: SigningRequest) -> Token:
        """Sign and count."""
        try:
            token = await self._source.sign(request)
        except TokenError:
            self._metrics.token_signed(TokenOutcome.FAILED)
            raise
        self._metrics.token_signed(TokenOutcome.SIGNED)
        self._log.debug("token signed", role=request.role, region=request.region)
        return token

    @property
    def failure(self) -> TokenError | None:
        """Why nothing can be signed, as of now."""
        return self._source.failure

    def note_refused(self, token: Token, cause: Cause) -> None:
        """Learn that the cluster refused a token."""
        self._source.note_refused(token, cause)

    def note_accepted(self, token: Token) -> None:
        """Learn that the cluster took a token."""
        self._source.note_accepted(token)


class CredentialLog:
    """Writes to the log what becomes of credentials."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def credentials_changed(
        self, credentials: Credentials, *, expires_in: float | None
    ) -> None:
        """Say whose are used from now on."""
        known: dict[str, object] = {}
        if credentials.role_arn:
            known["role_arn"] = credentials.role_arn
        if expires_in is not None:
            known["expires_in"] = round(expires_in)
        self._log.info(
            "credentials changed",
            source=credentials.source,
            access_key_id=credentials.short_id,
            **known,
        )

    def credentials_failed(self, error: TokenError) -> None:
        """Say why there are no new ones."""
        self._log.warning(
            "credentials failed",
            code=error.sqlstate,
            message=error.message,
            detail=error.detail,
            hint=error.hint,
        )

    def watch_failed(self, error: Exception) -> None:
        """Say that a file that changes is not noticed."""
        self._log.warning(
            "AWS files not watched",
            error=type(error).__name__,
            hint="Changed files are taken up when credentials are next fetched.",
        )
