import dsqlproxy.errors
from dsqlproxy.errors import (
    ConfigError,
    ConnectionLost,
    DsqlProxyError,
    MessageTooLarge,
    OutcomeUnknown,
    Peer,
    ProtocolError,
    RoleNotAllowed,
    SessionLimitReached,
    ShuttingDown,
    SwapError,
    TokenError,
    TooManyConnections,
    UpstreamRejected,
    UpstreamUnavailable,
)

# INTERFACE, "What a client sees": programs decide by these.
SQLSTATES: dict[type[DsqlProxyError], str] = {
    DsqlProxyError: "XX000",
    ProtocolError: "08P01",
    ConnectionLost: "08006",
    OutcomeUnknown: "08007",
    UpstreamUnavailable: "08001",
    TokenError: "28000",
    RoleNotAllowed: "28000",
    MessageTooLarge: "54000",
    TooManyConnections: "53300",
    ShuttingDown: "57P01",
    SessionLimitReached: "57P01",
}
WITHOUT_ONE = {ConfigError, SwapError, UpstreamRejected}


def test_every_error_shows_its_sqlstate() -> None:
    assert {kind: kind.sqlstate for kind in SQLSTATES} == SQLSTATES


def test_every_error_is_in_the_tree_and_in_this_test() -> None:
    defined = {
        found
        for found in vars(dsqlproxy.errors).values()
        if isinstance(found, type) and issubclass(found, Exception)
    }
    assert defined == SQLSTATES.keys() | WITHOUT_ONE
    assert all(issubclass(kind, DsqlProxyError) for kind in defined)


def test_every_error_stands_in_the_picture_with_its_sqlstate() -> None:
    lines = [line.split() for line in (dsqlproxy.errors.__doc__ or "").splitlines()]
    for kind, sqlstate in SQLSTATES.items():
        (line,) = (words for words in lines if kind.__name__ in words)
        assert sqlstate in line


def test_an_error_says_all_it_knows_in_one_line() -> None:
    error = TokenError("no credentials.", detail="Nothing was found.", hint="Run x.")
    assert (error.message, error.detail, error.hint) == (
        "no credentials.",
        "Nothing was found.",
        "Run x.",
    )
    assert str(error) == "no credentials. Nothing was found. Run x"
    assert str(ProtocolError("bad")) == "bad"
    assert str(ProtocolError("bad", hint="Do better.")) == "bad. Do better"


def test_a_lost_connection_says_whose() -> None:
    assert ConnectionLost("gone", peer=Peer.CLIENT).peer is Peer.CLIENT
    unknown = OutcomeUnknown("gone", peer=Peer.UPSTREAM, detail="d", hint="h")
    assert isinstance(unknown, ConnectionLost)
    assert (unknown.peer, unknown.detail, unknown.hint) == ("upstream", "d", "h")


def test_a_config_error_names_each_problem() -> None:
    error = ConfigError(iter(["a: bad", "b: worse"]), source="proxy.yaml")
    assert error.problems == ("a: bad", "b: worse")
    assert error.source == "proxy.yaml"
    assert error.message == "a: bad; b: worse"
    assert ConfigError([]).source == ""


def test_a_refused_login_keeps_what_the_cluster_sent() -> None:
    fields = (("S", "FATAL"), ("C", "08006"), ("M", "access denied"))
    error = UpstreamRejected("access denied", fields=fields, detail="d", hint="h")
    assert (error.fields, error.detail, error.hint) == (fields, "d", "h")
