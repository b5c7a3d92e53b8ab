from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from dsqlproxy.config.addresses import (
    Address,
    TcpAddress,
    UnixAddress,
    max_unix_path_bytes,
    parse_dial,
    parse_host_name,
    parse_listen,
    parse_tcp_listen,
)


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("127.0.0.1:5432", TcpAddress("127.0.0.1", 5432)),
        ("localhost:0", TcpAddress("localhost", 0)),
        ("0.0.0.0:65535", TcpAddress("0.0.0.0", 65_535)),  # noqa: S104
        ("[::1]:5432", TcpAddress("::1", 5432)),
        ("[fe80::1%eth0]:1", TcpAddress("fe80::1%eth0", 1)),
        ("db-1.example_net.org:5432", TcpAddress("db-1.example_net.org", 5432)),
        ("unix:/run/x", UnixAddress("/run/x/.s.PGSQL.5432")),
        ("unix:/run/x/", UnixAddress("/run/x/.s.PGSQL.5432")),
        ("unix:/run/x:6000", UnixAddress("/run/x/.s.PGSQL.6000")),
        ("unix:/", UnixAddress("/.s.PGSQL.5432")),
        ("unix:/run/x.sock", UnixAddress("/run/x.sock")),
        ("unix:/run/x.socket", UnixAddress("/run/x.socket")),
        ("unix:/run/x/.s.PGSQL.7", UnixAddress("/run/x/.s.PGSQL.7")),
    ],
    ids=repr,
)
def test_every_documented_address_is_read(written: str, address: Address) -> None:
    assert parse_listen(written) == address


def test_an_existing_directory_is_one_whatever_its_name(tmp_path: Path) -> None:
    odd = tmp_path / "odd.sock"
    odd.mkdir()
    assert parse_listen(f"unix:{odd}") == UnixAddress(f"{odd}/.s.PGSQL.5432")


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("", "no port"),
        ("127.0.0.1", "no port"),
        ("5432", "has no host (127.0.0.1:5432 is meant?)"),
        (5432, "quotes"),
        (True, "boolean"),
        (None, "null is not text;"),
        ([":"], "not text"),
        (":5432", "no host"),
        ("*:5432", "no host"),
        ("[]:5432", "not IPv6"),
        ("[127.0.0.1]:5432", "not IPv6"),
        ("::1:5432", "without brackets"),
        ("a:b:c", "not an address"),
        ("[::1]", "not an address"),
        ("tcp://127.0.0.1:5432", "URL"),
        ("127.0.0.1:65536", "above 65535"),
        ("127.0.0.1:-1", "not an address"),
        ("127.0.0.1:x", "not an address"),
        ("127.0.0.1:٣", "not an address"),
        ("127.0.0.256:1", "not a host"),
        ("127.1:1", "not a host"),
        ("a b:1", "not a host"),
        ("-a:1", "not a host"),
        (f"{'a.' * 127}a:1", "not a host"),
        ("/run/x", "unix:"),
        ("unix:run/x", "absolute"),
        ("unix:", "absolute"),
        ("unix:/run\0/x", "absolute"),
        ("unix:/run/x:0", "1 to 65535"),
        ("unix:/run/x:65536", "1 to 65535"),
        ("unix:/run/x.sock:5432", "after the name of a socket"),
    ],
    ids=repr,
)
def test_a_bad_address_is_refused_with_the_accepted_forms(
    written: object, complaint: str
) -> None:
    with pytest.raises(ValueError, match="accepted: host:port") as refusal:
        parse_listen(written)
    assert complaint in str(refusal.value)


def test_a_socket_path_may_have_the_length_that_the_system_allows() -> None:
    name = "/.s.PGSQL.5432"
    directory = "/" + "d" * (max_unix_path_bytes() - len(name) - 1)
    assert parse_listen(f"unix:{directory}") == UnixAddress(directory + name)
    with pytest.raises(ValueError, match=r"108 bytes|104 bytes"):
        parse_listen(f"unix:{directory}d")


@pytest.mark.parametrize(
    ("system", "limit"), [("linux", 107), ("darwin", 103), ("freebsd14", 103)]
)
def test_the_longest_socket_path_is_that_of_the_system(
    monkeypatch: pytest.MonkeyPatch, system: str, limit: int
) -> None:
    monkeypatch.setattr("sys.platform", system)
    assert max_unix_path_bytes() == limit


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:10.0.0.1", False),
        ("0.0.0.0", False),  # noqa: S104
        ("::", False),
        ("10.0.0.1", False),
        ("example.com", False),
        ("localhost.example.com", False),
    ],
    ids=repr,
)
def test_loopback_is_what_only_this_machine_reaches(
    host: str, is_loopback: bool
) -> None:
    assert TcpAddress(host, 1).is_loopback is is_loopback


def test_a_unix_socket_is_reached_by_this_machine_only() -> None:
    assert UnixAddress("/x").is_loopback


@pytest.mark.parametrize("address", [TcpAddress("::1", 1), UnixAddress("/x.sock")])
def test_an_address_is_written_as_it_is_read(address: Address) -> None:
    assert parse_listen(str(address)) == address
    assert parse_listen(address) is address


@pytest.mark.parametrize("written", ["unix:/x", "/x", 1, None])
def test_the_admin_listener_is_not_on_a_unix_socket(written: object) -> None:
    with pytest.raises(ValueError, match=r"accepted: host:port .*\[::1\]:5432$"):
        parse_tcp_listen(written)


def test_an_address_to_dial_needs_a_port() -> None:
    assert parse_dial("127.0.0.1:16000") == TcpAddress("127.0.0.1", 16_000)
    assert parse_dial(TcpAddress("a", 1)) == TcpAddress("a", 1)
    with pytest.raises(ValueError, match="port 0"):
        parse_dial("127.0.0.1:0")


@pytest.mark.parametrize("written", ["127.0.0.1", "[::1]", "::1", "a b", "a.", "", 3])
def test_what_cannot_be_sent_as_sni_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="accepted: a host name"):
        parse_host_name(written)


def test_a_host_name_is_read() -> None:
    assert parse_host_name("x.dsql.us-east-1.on.aws") == "x.dsql.us-east-1.on.aws"


@given(st.text() | st.text().map("unix:/{}".format) | st.text().map("{}:5432".format))
def test_noise_reads_as_an_address_that_writes_back_or_is_refused(noise: str) -> None:
    try:
        address = parse_listen(noise)
    except ValueError as refusal:
        assert "accepted: " in str(refusal)  # noqa: PT017 - noise may be an address
    else:
        assert parse_listen(str(address)) == address
