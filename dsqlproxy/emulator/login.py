"""The login conversation, from the startup packet to a session of PostgreSQL.

The order of the checks is inferred: what the cluster's front door can know without
the token (the cluster's name, its limits, whether it sleeps) comes before the
password is asked for; what only the cluster itself knows comes after.
"""

import asyncio
import logging
from typing import Final

from dsqlproxy.dsql import ADMIN_ROLE, DATABASE, action_for
from dsqlproxy.emulator import fatals
from dsqlproxy.emulator.backend import Backend, BackendRefused, open_backend, run_sql
from dsqlproxy.emulator.fatals import LoginAbandoned, LoginRefused
from dsqlproxy.emulator.line import ClientLine
from dsqlproxy.emulator.options import take_cluster_id
from dsqlproxy.emulator.shared import Shared
from dsqlproxy.emulator.sigv4 import Refused
from dsqlproxy.errors import DsqlProxyError, ProtocolError
from dsqlproxy.pgproto.codes import AuthenticationCode, FrontendType
from dsqlproxy.pgproto.framing import FrameReader
from dsqlproxy.pgproto.messages import (
    Authentication,
    ErrorResponse,
    NegotiateProtocolVersion,
    PasswordMessage,
)
from dsqlproxy.pgproto.startup import (
    OPTION_PREFIX,
    PROTOCOL_3_0,
    StartupMessage,
)

logger = logging.getLogger(__name__)

_CANNOT_CONNECT: Final = "08006"
_REFUSED_BY_POSTGRES_FOR_ROLE: Final = "28000"
_TOO_MANY_IN_POSTGRES: Final = "53300"


class Login:
    """One client's way in; every refusal leaves as `LoginRefused`."""

    def __init__(self, line: ClientLine, shared: Shared) -> None:
        self._line = line
        self._shared = shared
        self._faults = shared.faults

    async def run(
        self, startup: StartupMessage, *, server_name: str | None, has_slot: bool
    ) -> Backend:
        """Check everything in the cluster's order; give the session behind it."""
        cluster_id, options = take_cluster_id(startup.get("options") or "")
        self._check_cluster(server_name, cluster_id)
        self._negotiate_version(startup)
        self._check_limits(has_slot=has_slot)
        role = startup.get("user")
        if not role:
            raise LoginRefused(fatals.NO_USER)
        principal_arn = self._check_token(await self._ask_for_token(), role)
        await asyncio.sleep(self._faults.slow_login)
        parameters = self._accepted_parameters(startup, options)
        backend = await self._open_backend(role, parameters, startup.get("database"))
        try:
            await self._check_mapping(backend, role, principal_arn)
        except BaseException:
            backend.channel.abort()
            raise
        return backend

    def _check_cluster(self, server_name: str | None, cluster_id: str | None) -> None:
        """Find the cluster by SNI, or through PrivateLink by the option.

        AWS documentation: without private DNS the name connected to is the VPC
        endpoint's, or an address (which sends no SNI), and the option is required.
        """
        by_name = server_name is not None and server_name.lower() in self._shared.hosts
        if cluster_id is not None and cluster_id != self._shared.cluster_id:
            raise LoginRefused(fatals.access_denied(fatals.UNKNOWN_CLUSTER_HINT))
        if by_name or cluster_id is not None:
            return
        if server_name is None:
            raise LoginRefused(fatals.SNI_MISSING)
        raise LoginRefused(fatals.access_denied(fatals.UNKNOWN_CLUSTER_HINT))

    def _negotiate_version(self, startup: StartupMessage) -> None:
        # As PostgreSQL 16 does, which a cluster says it is: 3.0 and no options.
        if startup.version != PROTOCOL_3_0 or startup.protocol_options:
            offer = NegotiateProtocolVersion(PROTOCOL_3_0, startup.protocol_options)
            self._line.write(offer.encode())

    def _check_limits(self, *, has_slot: bool) -> None:
        faults = self._faults
        if faults.take_rate_exceeded() or not self._shared.bucket.take():
            raise LoginRefused(fatals.RATE_EXCEEDED)
        if faults.take_too_many_connections() or not has_slot:
            raise LoginRefused(fatals.TOO_MANY_CONNECTIONS)
        if faults.is_waking_up:
            raise LoginRefused(fatals.WAKING_UP)
        if faults.fatal:
            raise LoginRefused(fatals.commanded(faults.fatal))

    async def _ask_for_token(self) -> str:
        request = Authentication(AuthenticationCode.CLEARTEXT_PASSWORD)
        self._line.write(request.encode())
        frames = FrameReader()
        answer = None
        while answer is None:
            data = await self._line.read()
            if not data:
                raise LoginAbandoned("the client left when asked for a password")
            try:
                answer = frames.next_frame(data)
            except ProtocolError:
                raise LoginRefused(fatals.INVALID_PASSWORD_PACKET) from None
        self._line.unread(frames.take_rest())
        if answer.type != FrontendType.PASSWORD:
            raise LoginRefused(fatals.NOT_A_PASSWORD)
        try:
            return PasswordMessage.decode(answer.body).password
        except ProtocolError:
            raise LoginRefused(fatals.INVALID_PASSWORD_PACKET) from None

    def _check_token(self, token: str, role: str) -> str:
        """Return who signed the token."""
        verdict = self._shared.verifier.verify(
            token, user=role, now=self._shared.wall_clock() + self._faults.skew
        )
        if isinstance(verdict, Refused):
            fields = {"reason": verdict.reason, "role": role}
            logger.info("token refused", extra={"fields": fields})
            raise LoginRefused(fatals.access_denied(verdict.explanation))
        if self._faults.expired_credentials:
            raise LoginRefused(fatals.access_denied(fatals.EXPIRED_CREDENTIALS_HINT))
        if self._faults.access_denied:
            hint = fatals.not_authorized(
                verdict.principal_arn, action_for(role), self._shared.cluster_arn
            )
            raise LoginRefused(fatals.access_denied(hint))
        return verdict.principal_arn

    def _accepted_parameters(
        self, startup: StartupMessage, options: str
    ) -> dict[str, str]:
        """Give the parameters for PostgreSQL, or refuse what the cluster refuses."""
        parameters = {
            name: value
            for name, value in startup.parameters
            if name not in {"user", "database", "options"}
            and not name.startswith(OPTION_PREFIX)
        }
        if options:
            parameters["options"] = options
        rulebook = self._shared.rulebook
        if rulebook:
            refused = rulebook.refused_parameter(tuple(parameters.items()))
            if refused is not None:
                raise LoginRefused(fatals.unsupported_parameter(refused))
            return rulebook.backend_parameters(parameters)
        return parameters

    async def _open_backend(
        self, role: str, parameters: dict[str, str], database: str | None
    ) -> Backend:
        address = self._shared.backend
        if self._shared.rulebook:
            # As PostgreSQL: who names no database means the one of the user's name.
            if (database or role) != DATABASE:
                raise LoginRefused(fatals.unknown_database(database or role))
            database = address.database or DATABASE
        if role in self._shared.forbidden_roles:
            raise LoginRefused(fatals.unknown_role(role))
        startup = StartupMessage(
            PROTOCOL_3_0,
            (
                ("user", address.user or role),
                ("database", database or address.database or DATABASE),
                *parameters.items(),
            ),
        )
        try:
            return await open_backend(address, startup)
        except BackendRefused as refused:
            raise LoginRefused(self._reworded(refused, role)) from None
        except (OSError, DsqlProxyError) as error:
            fields = {"error": str(error)}
            logger.warning("no way to PostgreSQL", extra={"fields": fields})
            raise LoginRefused(
                fatals.fatal(_CANNOT_CONNECT, "the emulator has no way to PostgreSQL")
            ) from None

    async def _check_mapping(
        self, backend: Backend, role: str, principal_arn: str
    ) -> None:
        """Look for the ``AWS IAM GRANT`` that every role but admin needs."""
        rulebook = self._shared.rulebook
        if rulebook is None or role == ADMIN_ROLE:
            return
        if not await run_sql(backend, rulebook.mapping_query(principal_arn)):
            raise LoginRefused(fatals.unmapped_role(role))

    def _reworded(self, refused: BackendRefused, role: str) -> ErrorResponse:
        """Say a refusal of PostgreSQL as the cluster would; others pass unchanged."""
        response = refused.response
        if response.sqlstate == _TOO_MANY_IN_POSTGRES:
            return fatals.TOO_MANY_CONNECTIONS
        if response.sqlstate != _REFUSED_BY_POSTGRES_FOR_ROLE:
            return response
        fields = {"role": role, "message": response.message}
        logger.info("role refused", extra={"fields": fields})
        if "does not exist" in response.message:
            return fatals.unknown_role(role)
        return fatals.unmapped_role(role)  # NOLOGIN, or pg_hba.conf
