"""Joins the SQL rules, an engine without I/O, to the sessions of an emulator."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dsqlproxy.emulator.faults import SqlFaults
from dsqlproxy.emulator.parameters import refused_startup_parameter
from dsqlproxy.emulator.rules import (
    BACKEND_PARAMETERS,
    SETUP_SQL,
    ClusterState,
    SqlRules,
)
from dsqlproxy.emulator.wordings import (
    SERVER_VERSION,
    stand_in_options,
    stand_in_parameter,
)

_MAPPING: Final = (
    "SELECT 1 FROM sys.iam_pg_role_mappings "
    "WHERE pg_role_name = session_user AND arn = :arn"
)


@dataclass(frozen=True, slots=True)
class SqlRulebook:
    """The rules of one cluster."""

    cluster: ClusterState
    faults: SqlFaults
    server_version: str = SERVER_VERSION
    cluster_sql: Sequence[str] = SETUP_SQL

    def for_session(self) -> SqlRules:
        """Begin with a new session."""
        return SqlRules(cluster=self.cluster, faults=self.faults)

    def refused_parameter(self, parameters: Sequence[tuple[str, str]]) -> str | None:
        """Name the first startup parameter that the cluster refuses."""
        return refused_startup_parameter(parameters)

    def backend_parameters(self, parameters: Mapping[str, str]) -> dict[str, str]:
        """Give what PostgreSQL's session begins with: the cluster's, the client's."""
        named = {stand_in_parameter(name): value for name, value in parameters.items()}
        options = stand_in_options(named.pop("options", ""))
        return {**named, **dict(BACKEND_PARAMETERS), "options": options}

    def mapping_query(self, principal_arn: str) -> str:
        """Give the SQL that finds the principal's grant of the session's role."""
        literal = "'{}'".format(principal_arn.replace("'", "''"))
        return _MAPPING.replace(":arn", literal)


def open_rulebook(faults: SqlFaults) -> SqlRulebook:
    """Begin with a new cluster."""
    return SqlRulebook(ClusterState(), faults)
