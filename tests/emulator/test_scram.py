import pytest
from hypothesis import given, strategies as st

from dsqlproxy.emulator.scram import ScramClient
from dsqlproxy.errors import ProtocolError

# RFC 7677, 3; the RFC's exchange names a user, PostgreSQL's has none, so the
# client's signature differs and the server's is checked against PostgreSQL itself
# (test_backend).
CHALLENGE = (
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
    b"s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
)


def client() -> ScramClient:
    return ScramClient("pencil", nonce="rOprNGfwEbeRWgbNEkqO")


def test_the_exchange_has_the_form_of_the_rfc() -> None:
    scram = client()
    assert scram.first() == b"n,,n=,r=rOprNGfwEbeRWgbNEkqO"
    final = scram.final(CHALLENGE)
    assert final.startswith(b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2Ra")
    assert b",p=" in final


@pytest.mark.parametrize(
    "challenge",
    [
        pytest.param(b"", id="empty"),
        pytest.param(CHALLENGE.replace(b"i=4096", b"i=many"), id="no number"),
        pytest.param(CHALLENGE.replace(b"i=4096", b"i=999999999"), id="endless work"),
        pytest.param(CHALLENGE.replace(b"r=rO", b"r=xx"), id="another nonce"),
        pytest.param(CHALLENGE.replace(b"s=W", b"s=!"), id="no base64"),
    ],
)
def test_a_bad_challenge_is_refused(challenge: bytes) -> None:
    with pytest.raises(ProtocolError, match="SCRAM challenge"):
        client().final(challenge)


@given(noise=st.binary(max_size=60))
def test_a_server_that_does_not_know_the_password_is_found_out(noise: bytes) -> None:
    scram = client()
    scram.final(CHALLENGE)
    with pytest.raises(ProtocolError, match="signature"):
        scram.verify(noise)
