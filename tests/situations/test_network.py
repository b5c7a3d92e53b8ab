"""What is said of the way to a cluster: the host, what failed, what to try."""

import pytest

from dsqlproxy.errors import DsqlProxyError, ProtocolError, UpstreamUnavailable
from dsqlproxy.situations import network
from dsqlproxy.situations.network import Flaw, Phase

NAME = "cluster.example:5432"
UNAVAILABLE = [
    network.not_resolved("cluster.example", "the name does not exist"),
    network.not_connected(NAME, ["192.0.2.1:5432: Connection refused"]),
    network.not_verified("cluster.example", reason="It is old.", flaw=Flaw.TIME),
    network.no_tls(NAME, ["direct TLS: no", "SSLRequest: no"]),
    network.error_before_tls("cluster.example"),
    network.closed_during_login(NAME),
    *(network.too_late(NAME, seconds=0.25, phase=phase) for phase in Phase),
]


@pytest.mark.parametrize("error", UNAVAILABLE, ids=str)
def test_a_way_that_is_not_there_is_told_with_its_host_and_a_hint(
    error: DsqlProxyError,
) -> None:
    assert isinstance(error, UpstreamUnavailable)
    assert "cluster.example" in error.message
    assert error.hint
    assert ".." not in f"{error.detail} {error.hint}"


def test_every_phase_and_every_flaw_has_a_hint_of_its_own() -> None:
    late = {network.too_late(NAME, seconds=1, phase=phase).hint for phase in Phase}
    assert len(late) == len(Phase)
    hints = {network.not_verified("x", reason="y", flaw=flaw).hint for flaw in Flaw}
    assert len(hints) == len(Flaw)


def test_a_time_limit_is_told_with_its_length_and_phase() -> None:
    error = network.too_late(NAME, seconds=0.25, phase=Phase.SECURE)
    assert error.detail == "The time limit of 0.25 s ended while beginning TLS."


def test_every_address_that_failed_is_named() -> None:
    failures = ["192.0.2.1:5432: Connection refused", "[2001:db8::1]:5432: Timeout"]
    assert network.not_connected(NAME, failures).detail == "; ".join(failures)
    assert network.not_connected(NAME, []).detail == "The name has no address."


def test_what_is_no_cluster_broke_the_protocol() -> None:
    for error in (network.other_authentication("md5"), network.not_a_login("it sang")):
        assert isinstance(error, ProtocolError)
        assert "Aurora DSQL cluster" in error.hint
    assert network.not_a_login("it sang").detail == "It sang."
