"""The catalogue's rows of the proxy's start, and of its clients' first bytes."""

from typing import Final

from dsqlproxy.endpoint import parse_endpoint
from dsqlproxy.errors import ConfigError, ProtocolError
from dsqlproxy.situations import startup
from dsqlproxy.situations.situation import (
    CLUSTER,
    LogEvent,
    Moment,
    Section,
    Situation,
)


def _bad_cluster(cluster: str, region: str | None, suffix: str = "") -> ConfigError:
    """Make what a cluster that cannot be one leads to on the command line."""
    try:
        parse_endpoint(cluster, region)
    except ValueError as error:
        return ConfigError([f"--cluster: {error}{suffix}"])
    raise AssertionError("refused, because the sample is not an endpoint")


START: Final = Section(
    "The proxy does not start",
    "Each problem of the configuration has a line of its own, all are told at once, "
    "and the exit code is 2. Two examples:",
    (
        Situation(
            key="not-an-endpoint",
            title="`cluster` is not an endpoint of Aurora DSQL",
            example=_bad_cluster("mydb.us-east-1.rds.amazonaws.com", None),
            mends="One of the accepted forms; the AWS console shows the endpoint.",
            moment=Moment.START,
            log_event=LogEvent.NONE,
        ),
        Situation(
            key="wrong-region",
            title="`region` is not the cluster's",
            example=_bad_cluster(CLUSTER, "eu-west-1", " (region is set by --region)"),
            mends="Leave `region` out: the endpoint names it.",
            moment=Moment.START,
            log_event=LogEvent.NONE,
        ),
    ),
)

_SILENT: Final = "The log's line has a hint."

FIRST_BYTES: Final = Section(
    "What a client says first is not understood",
    "No login to the cluster was made. A client of another protocol would not "
    "understand an error, so its connection is closed without one; the log says why.",
    (
        Situation(
            key="startup-packet-too-long",
            title="The startup packet is too long",
            example=startup.explained(
                ProtocolError("invalid length of startup packet: 20107")
            ),
            mends="Shorten `PGOPTIONS` and other parameters of the connection: "
            "PostgreSQL allows 10,000 bytes. Or it is no PostgreSQL client at all.",
            log_event=LogEvent.REFUSED,
        ),
        Situation(
            key="startup-packet-malformed",
            title="The startup packet is malformed",
            example=startup.explained(
                ProtocolError("startup packet has an invalid layout")
            ),
            mends="Use a PostgreSQL client, or another version of the driver.",
            log_event=LogEvent.REFUSED,
        ),
        Situation(
            key="unknown-protocol",
            title="The client speaks an old version of the protocol",
            example=startup.explained(
                ProtocolError(
                    "unsupported frontend protocol 2.0",
                    hint="Protocol 3.0 to 3.2 is spoken here.",
                )
            ),
            mends="Use a client that is younger than 2003.",
            log_event=LogEvent.REFUSED,
        ),
        Situation(
            key="second-ssl-request",
            title="The client asks for encryption twice",
            example=startup.asked_twice("SSLRequest"),
            mends="Use another version of the driver.",
            log_event=LogEvent.REFUSED,
        ),
        Situation(
            key="data-before-encryption",
            title="Unencrypted data came after a request for encryption",
            example=startup.data_before_encryption("SSL"),
            mends="Find out who is between client and proxy; else use another "
            "version of the driver.",
            log_event=LogEvent.REFUSED,
        ),
        Situation(
            key="direct-tls-without-alpn",
            title="The client begins TLS directly, without ALPN",
            example=startup.no_alpn(),
            mends="`sslnegotiation=postgres`; or a newer driver.",
            log_event=LogEvent.REFUSED,
        ),
        Situation(
            key="tls-not-offered",
            title="The client wants TLS, which the listener does not offer",
            psql="server does not support SSL, but SSL was required",
            mends="`sslmode=disable` or `prefer` in the client (the connection does "
            f"not leave the machine), or `client_tls: auto` on the listener. {_SILENT}",
            moment=Moment.SILENCE,
            log_event=LogEvent.LEFT,
        ),
        Situation(
            key="direct-tls-not-offered",
            title="The client begins TLS directly, which the listener does not offer",
            mends="`client_tls: auto` on the listener, or `sslmode=disable` in the "
            f"client (the connection does not leave the machine). {_SILENT}",
            moment=Moment.SILENCE,
            log_event=LogEvent.LEFT,
        ),
        Situation(
            key="tls-with-client-failed",
            title="TLS with the client cannot be agreed upon",
            mends="Let the client trust the listener's certificate "
            f"(`sslrootcert`), or use `sslmode=require`. {_SILENT}",
            moment=Moment.SILENCE,
            log_event=LogEvent.LEFT,
        ),
        Situation(
            key="http",
            title="The client speaks HTTP",
            mends=f"Health checks and metrics are on the `admin` listener. {_SILENT}",
            moment=Moment.SILENCE,
            log_event=LogEvent.LEFT,
        ),
        Situation(
            key="login-timeout",
            title="No startup packet comes within `login_timeout`",
            mends="A probe of the port is welcome and costs no login. The log has "
            "it at level debug.",
            moment=Moment.SILENCE,
            log_event=LogEvent.LEFT,
        ),
    ),
)
