"""Facts of an Aurora DSQL cluster that the proxy and the emulator rely on.

Each fact says how it is known. Nothing here does anything; it is looked up.
"""

from typing import Final

# AWS documentation (Aurora DSQL user guide): a cluster has one database and listens
# on one port; neither can be chosen.
DATABASE: Final = "postgres"
PORT: Final = 5432

# AWS documentation: `admin` is the role that every cluster is created with, and the
# only one that connects with the action dsql:DbConnectAdmin. A role and an action
# that do not belong together are refused: observed on a cluster as 08006 with
# HINT "Wrong user to action mapping. user: admin, action: DbConnect".
ADMIN_ROLE: Final = "admin"
ADMIN_ACTION: Final = "DbConnectAdmin"
ROLE_ACTION: Final = "DbConnect"

# The cluster refuses a token that lives longer than a week ("X-Amz-Expires must be
# less than a week (in seconds)": asserted by the public tests of AWS's connectors,
# which run against a cluster). One second is the least that SigV4 can express.
# The AWS SDK checks neither end, so configuration does.
MIN_TOKEN_LIFETIME_SECONDS: Final = 1
MAX_TOKEN_LIFETIME_SECONDS: Final = 604_800

# AWS documentation (quotas): one protocol message is at most 10 MiB. Documented as
# 08P01 "invalid message length"; observed on a cluster as a bare close.
MAX_MESSAGE_BYTES: Final = 10 * 1024 * 1024

# AWS documentation (accessing Aurora DSQL): the settings a client may give in the
# startup packet, with SET, SET LOCAL or RESET; of every other one the cluster says
# 'setting configuration parameter "x" not supported' (0A000, and FATAL at startup:
# observed on a cluster). Lower case: PostgreSQL folds the names of settings.
# `role` is the odd one: only SET LOCAL ROLE inside a transaction is accepted, so it
# is never part of a session's lasting state, and never of a startup packet.
ACCEPTED_PARAMETERS: Final[frozenset[str]] = frozenset(
    {
        "application_name",
        "client_encoding",
        "datestyle",
        "disable_sync_create_index",
        "dsql.enable_batched_nestloop",
        "enable_bitmapscan",
        "enable_hashjoin",
        "enable_indexonlyscan",
        "enable_indexscan",
        "enable_material",
        "enable_mergejoin",
        "enable_nestloop",
        "enable_seqscan",
        "extra_float_digits",
        "intervalstyle",
        "search_path",
        "timezone",
    }
)
TRANSACTION_ONLY_PARAMETERS: Final[frozenset[str]] = frozenset({"role"})


def action_for(role: str) -> str:
    """Name the IAM action (without ``dsql:``) that a token for ``role`` must carry."""
    return ADMIN_ACTION if role == ADMIN_ROLE else ROLE_ACTION
