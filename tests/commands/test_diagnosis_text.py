import pytest

from dsqlproxy.aws.credentials import Credentials
from dsqlproxy.aws.secret import Secret
from dsqlproxy.aws.tokens import Token
from dsqlproxy.commands.diagnosis_text import (
    client_line,
    credentials_text,
    dns_text,
    login_text,
    span_text,
    tls_text,
    token_text,
    trouble_of,
)
from dsqlproxy.config import ListenerConfig, TcpAddress
from dsqlproxy.errors import TokenError, UpstreamRejected
from dsqlproxy.situations.remedies import Remedy
from dsqlproxy.situations.restart import AFTERWARDS
from dsqlproxy.upstream.encryption import Way
from dsqlproxy.upstream.resolve import Address
from dsqlproxy.upstream.securing import Attempt
from tests.kit.configs import CLUSTER

NOW = 1_000_000.0


def addresses(*hosts: str) -> tuple[Address, ...]:
    return tuple(Address(2, (host, 5432)) for host in hosts)


# -- errors ----------------------------------------------------------------------------


def test_an_error_of_ours_is_told_as_to_a_client() -> None:
    remedy = Remedy("for", "text")
    trouble = trouble_of(TokenError("no", detail="why", hint="do"), remedy)
    assert (trouble.code, trouble.message) == ("28000", "no")
    assert (trouble.detail, trouble.hint) == ("why", "do")
    assert trouble.remedy is remedy


def test_an_error_of_the_clusters_keeps_its_own_fields() -> None:
    fields = (("C", "08006"), ("M", "denied"), ("H", "its own"))
    error = UpstreamRejected("denied", fields=fields, detail="ours")
    trouble = trouble_of(error)
    assert (trouble.code, trouble.message) == ("08006", "denied")
    assert (trouble.detail, trouble.hint) == ("ours", "its own")
    assert trouble.quoted == ("its own",)


def test_an_error_without_the_cluster_s_own_explanation_quotes_nothing() -> None:
    error = UpstreamRejected("denied", fields=(("M", "denied"),), hint="ours")
    assert trouble_of(error).quoted == ()


def test_what_a_running_proxy_does_is_left_out() -> None:
    trouble = trouble_of(TokenError("no", hint=f"Log in. {AFTERWARDS}"))
    assert trouble.hint == "Log in."


# -- the way ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hosts", "dialled", "expected"),
    [
        (["1.2.3.4"], None, "1.2.3.4"),
        (["1.2.3.4", "::1", "::2"], None, "1.2.3.4 and 2 more"),
        (["1.2.3.4"], "tunnel", "tunnel -> 1.2.3.4 (connect_address)"),
        (["1.2.3.4"], "1.2.3.4", "1.2.3.4 (connect_address)"),
    ],
)
def test_addresses_are_told_with_the_name_that_was_resolved(
    hosts: list[str], dialled: str | None, expected: str
) -> None:
    attempt = Attempt(addresses=addresses(*hosts))
    connect_address = TcpAddress(dialled, 1) if dialled else None
    assert dns_text(attempt, connect_address) == expected


def test_what_has_not_come_yet_is_not_told() -> None:
    assert tls_text(Attempt()) == ""
    assert tls_text(Attempt(way=Way.DIRECT)) == ""
    assert token_text(Attempt()) == ""


def test_a_token_is_told_without_its_value() -> None:
    token = Token("secret", role="reader", lifetime_seconds=15)
    assert token_text(Attempt(token=token)) == "for role reader, DbConnect, 15 s"


@pytest.mark.parametrize(
    ("reported", "expected"),
    [({"server_version": "16.15"}, "role x, PostgreSQL 16.15"), ({}, "role x")],
)
def test_a_login_is_told_with_the_version(
    reported: dict[str, str], expected: str
) -> None:
    assert login_text(reported, "x") == expected


# -- credentials -----------------------------------------------------------------------


def credentials(expires_at: float | None, *, is_temporary: bool = False) -> Credentials:
    return Credentials(
        "AKIAIOSFODNN7EXAMPLE",
        Secret("secret"),
        Secret("token") if is_temporary else None,
        expires_at=expires_at,
        source="AWS SSO",
        role_arn="arn:role",
    )


def test_credentials_are_told_with_who_and_until_when() -> None:
    text = credentials_text(
        credentials(NOW + 25_920), profile="dev", caller="arn:caller", now=NOW
    )
    assert text == "AWS SSO, profile dev, AKIA…MPLE, arn:caller, expire in 7 h 12 min"


def test_who_is_taken_from_the_role_where_nobody_was_asked() -> None:
    text = credentials_text(credentials(None), profile=None, caller=None, now=NOW)
    assert text == "AWS SSO, AKIA…MPLE, arn:role, do not expire"


def test_temporary_ones_expire_even_if_nobody_knows_when() -> None:
    given = credentials(None, is_temporary=True)
    text = credentials_text(given, profile=None, caller=None, now=NOW)
    assert text.endswith("expire at a time that nobody has told")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-3, "0 s"),
        (45.9, "45 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (25_920, "7 h 12 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_a_span_is_told_as_people_say_it(seconds: float, expected: str) -> None:
    assert span_text(seconds) == expected


# -- how to connect --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("127.0.0.1:5432", "psql -h 127.0.0.1 -p 5432 -U admin postgres"),
        ("0.0.0.0:6000", "psql -h 127.0.0.1 -p 6000 -U admin postgres"),
        ("[::]:6000", "psql -h ::1 -p 6000 -U admin postgres"),
        ("unix:/run/d", "psql -h /run/d -p 5432 -U admin postgres"),
        ("unix:/run/d:6543", "psql -h /run/d -p 6543 -U admin postgres"),
        (
            "unix:/run/d/my.sock",
            "a driver that takes the path of a socket, /run/d/my.sock",
        ),
    ],
)
def test_the_line_of_a_client(listen: str, expected: str) -> None:
    listener = ListenerConfig.model_validate(
        {"listen": listen, "cluster": CLUSTER, "allow_remote_trust": True}
    )
    assert client_line(listener, "admin") == expected


def test_a_free_port_is_known_only_later() -> None:
    listener = ListenerConfig.model_validate(
        {"listen": "127.0.0.1:0", "cluster": CLUSTER}
    )
    assert "log" in client_line(listener, "admin")
