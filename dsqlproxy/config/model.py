"""The configuration as frozen, validated sections, each given to whoever needs it.

The order of keys in ListenerConfig is not free: a rule that joins two keys is checked
on the later one, which sees the earlier one if that was valid. So all problems come
out at once, and none is only the consequence of another.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError

from dsqlproxy.config.addresses import Address, TcpAddress
from dsqlproxy.config.assume_role import AssumeRole
from dsqlproxy.config.certificates import parse_authorities
from dsqlproxy.config.client_tls import ClientTls
from dsqlproxy.config.refusal import refused
from dsqlproxy.config.section import Section
from dsqlproxy.config.values import (
    AdminListenAddress,
    Burst,
    Count,
    DialAddress,
    Duration,
    HoldTimeout,
    HostName,
    Identifier,
    ListenAddress,
    Rate,
    Region,
    Roles,
    SessionLimit,
    Switch,
    Text,
    TimeLimit,
    TokenLifetime,
    UnixMode,
    one_of,
)
from dsqlproxy.dsql import DATABASE
from dsqlproxy.endpoint import Endpoint, parse_endpoint

DEFAULT_LISTEN = TcpAddress("127.0.0.1", 5432)
DEFAULT_ADMIN_LISTEN = TcpAddress("127.0.0.1", 9090)

TlsNegotiation = Annotated[
    Literal["auto", "direct", "postgres"],
    BeforeValidator(one_of("auto", "direct", "postgres")),
]
UnsupportedParameters = Annotated[
    Literal["drop", "pass"], BeforeValidator(one_of("drop", "pass"))
]
Recovery = Annotated[
    Literal["presumed", "exact", "off"],
    BeforeValidator(one_of("presumed", "exact", "off")),
    WithJsonSchema({"enum": ["presumed", "exact", "off", False]}),
]
Authorities = Annotated[
    Path,
    PlainValidator(parse_authorities),
    WithJsonSchema({"type": "string", "format": "path"}),
]
ClientAuth = Annotated[Literal["trust"], BeforeValidator(one_of("trust"))]
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"],
    BeforeValidator(one_of("debug", "info", "warning", "error")),
]
LogFormat = Annotated[
    Literal["auto", "text", "json"], BeforeValidator(one_of("auto", "text", "json"))
]


def _key(default: Any, description: str, *, shown: str | None = None) -> Any:
    """Describe an optional key; ``shown`` is its default as the file would say it."""
    return Field(
        default=default,
        description=description,
        json_schema_extra=None if shown is None else {"default": shown},
    )


def _conflict(message: str, *, sibling: str) -> PydanticCustomError:
    """Make the error of a key that cannot stand beside its ``sibling``."""
    return PydanticCustomError(
        "conflict", "{message}", {"message": message, "sibling": sibling}
    )


class ListenerConfig(Section):
    """One address that clients connect to, and the cluster behind it."""

    allow_remote_trust: Switch = _key(
        False,
        "Allow client_auth trust on an address that is not loopback: whoever reaches "
        "it can use the cluster.",
    )
    client_auth: ClientAuth = _key(
        "trust", "How clients prove who they are; trust asks for nothing."
    )
    listen: ListenAddress = _key(
        DEFAULT_LISTEN,
        "Where clients connect: host:port, [IPv6]:port, unix:/directory, "
        "unix:/directory:port, or unix:/path/to/name.sock. Port 0 is any free port.",
        shown=str(DEFAULT_LISTEN),
    )
    name: Text = Field(
        default="",
        validate_default=True,
        description="Name in logs and metrics. Default: the listen address.",
        json_schema_extra={"type": ["string", "null"], "default": None},
    )
    region: Region | None = _key(
        None, "AWS Region of the cluster. Default: taken from cluster."
    )
    cluster: Text = Field(
        description="Endpoint of the cluster, its ARN, or its id together with region."
    )
    profile: Text | None = _key(
        None, "AWS profile to sign with. Default: the usual AWS credential chain."
    )
    assume_role: AssumeRole | None = _key(
        None,
        "Role to assume with those credentials: its ARN, or a mapping of role_arn, "
        "session_name and external_id.",
    )
    role: Identifier | None = _key(
        None, "Every session uses this role, whatever user the client names."
    )
    roles: Roles | None = _key(
        None, "The only roles that clients may ask for; excludes role."
    )
    token_lifetime: TokenLifetime = _key(
        60, "How long a token for one login is valid, 1s to 7d.", shown="60s"
    )
    session_limit: SessionLimit = _key(
        3600.0,
        "When the cluster ends a session, 1s to 24h; before that the proxy moves it to "
        "a new one, unnoticed by the client.",
        shown="60m",
    )
    recovery: Recovery = _key(
        "presumed",
        "Replace a lost connection to the cluster while its session is quiet: presumed "
        "(no sign that a setting changed since it was asked for), exact (nothing ran "
        "since), or off.",
    )
    connect_address: DialAddress | None = _key(
        None,
        "Dial this host:port instead of the endpoint (tunnel, PrivateLink); name in "
        "TLS and token stay those of the endpoint.",
    )
    server_name: HostName | None = _key(
        None, "Name to send as SNI and to verify. Default: the endpoint."
    )
    ca_file: Authorities | None = _key(
        None, "PEM file of the authorities to trust. Default: those of the system."
    )
    tls_negotiation: TlsNegotiation = _key(
        "auto",
        "How TLS to the cluster begins: direct, postgres (SSLRequest), or auto (direct "
        "first).",
    )
    startup_options: Text | None = _key(
        None, 'Options to send to the cluster, such as "-c amzn-cluster-id=…".'
    )
    database: Identifier = _key(
        DATABASE,
        "Database named to the cluster whatever the client asks for; client passes on "
        "the client's.",
    )
    unsupported_parameters: UnsupportedParameters = _key(
        "drop",
        "Startup parameters that the cluster would refuse: drop (and warn) or pass.",
    )
    connect_timeout: TimeLimit = _key(
        10.0, "Time limit for reaching and logging in to the cluster.", shown="10s"
    )
    hold_timeout: HoldTimeout = _key(
        10.0,
        "How long a client waits for credentials, a waking cluster or its turn to log "
        "in before it gets an error, at most 1h; 0 for not at all.",
        shown="10s",
    )
    max_sessions: Count = _key(1000, "Most sessions at a time on this listener.")
    max_connect_rate: Rate = _key(
        100.0,
        "Most logins per second, 0.01 to 100000, after a burst; listeners of one "
        "cluster share it.",
    )
    max_connect_burst: Burst = _key(
        1000.0, "Most logins at once, before max_connect_rate counts."
    )
    client_tls: ClientTls = _key(
        "off",
        "TLS for clients: off, auto (a self-signed certificate), or a mapping of "
        "cert_file and key_file.",
    )
    unix_mode: UnixMode = _key(0o600, "Permissions of a unix socket.", shown="0600")
    login_timeout: TimeLimit = _key(
        60.0, "From accept to a complete startup packet.", shown="60s"
    )

    @property
    def endpoint(self) -> Endpoint:
        """The cluster's endpoint and region, read from ``cluster`` and ``region``."""
        return parse_endpoint(self.cluster, self.region)

    @property
    def trusts_remote_clients(self) -> bool:
        """Whether clients of other machines come in unasked; worth a warning."""
        return not self.listen.is_loopback

    @field_validator("listen")
    @classmethod
    def _remote_trust_is_meant(cls, listen: Address, info: ValidationInfo) -> Address:
        if listen.is_loopback or info.data.get("allow_remote_trust", True):
            return listen
        message = refused(
            str(listen),
            "is not loopback, and with client_auth trust whoever reaches it can use "
            "the cluster",
            accepted="a loopback address or a unix socket; any address with "
            "allow_remote_trust: true in the file, or "
            "DSQLPROXY_LISTENER_ALLOW_REMOTE_TRUST=true",
        )
        raise _conflict(str(message), sibling="allow_remote_trust")

    @field_validator("name", mode="before")
    @classmethod
    def _named_by_address(cls, name: object, info: ValidationInfo) -> object:
        if name is None or name == "":
            return str(info.data.get("listen", "(no address)"))
        return name

    @field_validator("cluster")
    @classmethod
    def _is_an_endpoint(cls, cluster: str, info: ValidationInfo) -> str:
        # Where region is bad it is not in the data, and its own problem is enough.
        if "region" in info.data:
            try:
                parse_endpoint(cluster, info.data["region"])
            except ValueError as error:
                raise _conflict(str(error), sibling="region") from None
        return cluster

    @field_validator("roles")
    @classmethod
    def _excludes_role(
        cls, roles: tuple[str, ...] | None, info: ValidationInfo
    ) -> tuple[str, ...] | None:
        if roles is not None and info.data.get("role") is not None:
            message = "is given together with role; accepted: one of the two"
            raise _conflict(message, sibling="role")
        return roles


class AdminConfig(Section):
    """The listener for health and metrics."""

    listen: AdminListenAddress = _key(
        DEFAULT_ADMIN_LISTEN,
        "Where health and metrics are served, host:port; off for nowhere.",
        shown=str(DEFAULT_ADMIN_LISTEN),
    )


class LogConfig(Section):
    """What is logged, and how it looks."""

    level: LogLevel = _key("info", "The least level that is logged.")
    format: LogFormat = _key(
        "auto", "text, json, or auto: text on a terminal, json otherwise."
    )


def _at_least_one(value: object) -> object:
    accepted = "a list of at least one listener, each with cluster"
    if not isinstance(value, list | tuple):
        raise refused(value, "is not a list", accepted=accepted)
    if not value:
        raise refused(value, "is empty", accepted=accepted)
    return value


def _empty_is_default(section: object) -> object:
    """Take ``log:`` with every line below it commented out for what it is."""
    return {} if section is None else section


class Config(Section):
    """The whole configuration."""

    listeners: Annotated[tuple[ListenerConfig, ...], BeforeValidator(_at_least_one)] = (
        Field(
            description="The addresses that clients connect to, at least one.",
            json_schema_extra={"minItems": 1},
        )
    )
    admin: Annotated[AdminConfig, BeforeValidator(_empty_is_default)] = Field(
        default_factory=AdminConfig, description="Health and metrics."
    )
    log: Annotated[LogConfig, BeforeValidator(_empty_is_default)] = Field(
        default_factory=LogConfig, description="Logging."
    )
    drain_delay: Duration = _key(
        0.0, "Keep accepting this long after SIGTERM.", shown="0s"
    )
    drain_timeout: Duration = _key(
        25.0, "How long busy sessions may go on once the proxy ends.", shown="25s"
    )
