"""TLS without sockets: two pipes, each fed with what the other has to send."""

import ssl
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from dsqlproxy.channel.tls import RECORD_BYTES, TlsPipe
from tests.kit.channels import SERVER_NAME, TlsContexts

Pipes = tuple[TlsPipe, TlsPipe]

VERSIONS = [
    pytest.param(ssl.TLSVersion.TLSv1_2, id="TLS 1.2"),
    pytest.param(ssl.TLSVersion.TLSv1_3, id="TLS 1.3"),
]


def pipes(tls: TlsContexts) -> Pipes:
    client = TlsPipe(tls.client, server_hostname=SERVER_NAME)
    server = TlsPipe(tls.server, server_side=True)
    return client, server


def shake_hands(client: TlsPipe, server: TlsPipe) -> int:
    """Let both get ready; give the number of steps that the client took."""
    steps = 1
    done = client.handshake()
    server_done = False
    while not (done and server_done):
        if not server_done:
            server_done = server.handshake(client.take_output())
        if not done:
            steps += 1
            done = client.handshake(server.take_output())
    assert server.receive(client.take_output()) == b""
    assert client.receive(server.take_output()) == b""  # session tickets
    return steps


@pytest.fixture
def connected(tls: TlsContexts) -> Pipes:
    client, server = pipes(tls)
    shake_hands(client, server)
    return client, server


@pytest.fixture(params=VERSIONS)
def of_each_version(request: pytest.FixtureRequest, tls: TlsContexts) -> Pipes:
    tls.client.maximum_version = request.param
    client, server = pipes(tls)
    shake_hands(client, server)
    assert server.version == client.version == f"TLSv1.{request.param - 0x301}"
    return client, server


def test_both_ends_agree_on_version_and_protocol(of_each_version: Pipes) -> None:
    client, server = of_each_version
    assert client.alpn == server.alpn == "postgresql"


def test_the_certificate_of_the_peer_can_be_read(connected: Pipes) -> None:
    client, server = connected
    names = client.peer_certificate["subjectAltName"]
    assert ("DNS", SERVER_NAME) in names
    assert server.peer_certificate == {}


def test_bytes_cross_in_both_directions(of_each_version: Pipes) -> None:
    client, server = of_each_version
    assert server.receive(client.encrypt(b"to the server")) == b"to the server"
    assert client.receive(server.encrypt(b"to the client")) == b"to the client"


def test_ciphertext_does_not_show_plaintext(connected: Pipes) -> None:
    client, _ = connected
    assert b"select secret" not in client.encrypt(b"select secret")


def test_no_protocol_where_the_peer_chose_none(tls: TlsContexts) -> None:
    plain = ssl.create_default_context()
    plain.check_hostname = False
    plain.verify_mode = ssl.CERT_NONE
    client, server = pipes(TlsContexts(tls.server, plain))
    shake_hands(client, server)
    assert server.alpn is None


def test_a_handshake_may_come_byte_by_byte(tls: TlsContexts) -> None:
    client, server = pipes(tls)
    assert client.handshake() is False
    hello = client.take_output()
    taken = [server.handshake(hello[at : at + 1]) for at in range(len(hello))]
    assert not any(taken)
    assert client.handshake(server.take_output()) is True


def test_data_behind_the_end_of_the_handshake_are_not_lost(tls: TlsContexts) -> None:
    client, server = pipes(tls)
    client.handshake()
    server.handshake(client.take_output())
    assert client.handshake(server.take_output())
    finished = client.take_output() + client.encrypt(b"early bird")
    assert server.handshake(finished)
    assert server.receive(b"") == b"early bird"


def test_a_certificate_of_another_name_is_refused_with_an_alert(
    tls: TlsContexts,
) -> None:
    client = TlsPipe(tls.client, server_hostname="elsewhere")
    server = TlsPipe(tls.server, server_side=True)
    client.handshake()
    server.handshake(client.take_output())
    with pytest.raises(ssl.SSLCertVerificationError):
        client.handshake(server.take_output())
    alert = client.take_output()
    assert alert
    with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
        server.handshake(alert)


@pytest.mark.parametrize(
    "noise", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\0\5hello", b"\0" * 8]
)
def test_noise_instead_of_a_handshake(tls: TlsContexts, noise: bytes) -> None:
    _, server = pipes(tls)
    with pytest.raises(ssl.SSLError):
        server.handshake(noise)


@pytest.mark.parametrize("size", [1, 7, RECORD_BYTES, RECORD_BYTES + 1, 1 << 20])
def test_messages_of_any_size(connected: Pipes, size: int) -> None:
    client, server = connected
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    sent = client.encrypt(data)
    assert (
        b"".join(
            server.receive(sent[at : at + 60_000]) for at in range(0, len(sent), 60_000)
        )
        == data
    )


def test_several_records_in_one_read_come_together(connected: Pipes) -> None:
    client, server = connected
    sent = client.encrypt(b"one ") + client.encrypt(b"two ") + client.encrypt(b"three")
    assert server.receive(sent) == b"one two three"


def test_half_a_record_gives_nothing_yet(connected: Pipes) -> None:
    client, server = connected
    sent = client.encrypt(b"whole ") + client.encrypt(b"in two parts")
    assert server.receive(sent[:-1]) == b"whole "
    assert server.receive(b"") == b""
    assert server.receive(sent[-1:]) == b"in two parts"


def test_the_rest_of_a_record_may_come_with_the_next_ones(connected: Pipes) -> None:
    client, server = connected
    first, second = client.encrypt(b"first"), client.encrypt(b"second")
    assert server.receive(first[:3]) == b""
    assert server.receive(first[3:] + second) == b"firstsecond"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    messages=st.lists(st.binary(min_size=1, max_size=300), max_size=8),
    cut=st.integers(1, 120),
)
def test_chunking_changes_nothing(
    connected: Pipes, messages: list[bytes], cut: int
) -> None:
    client, server = connected
    sent = b"".join(client.encrypt(message) for message in messages)
    parts = [server.receive(sent[at : at + cut]) for at in range(0, len(sent), cut)]
    assert b"".join(parts) == b"".join(messages)


def test_a_changed_record_is_an_error(of_each_version: Pipes) -> None:
    client, server = of_each_version
    sent = bytearray(client.encrypt(b"pay 10"))
    sent[-1] ^= 1
    with pytest.raises(ssl.SSLError):
        server.receive(bytes(sent))
    assert server.take_output()  # the alert


def test_close_notify_ends_what_comes_before_it(of_each_version: Pipes) -> None:
    client, server = of_each_version
    sent = client.encrypt(b"last words") + client.close()
    assert not server.is_ended
    assert server.receive(sent) == b"last words"
    assert server.is_ended


def test_close_notify_alone(connected: Pipes) -> None:
    client, server = connected
    goodbye = client.close()
    assert goodbye
    assert server.receive(goodbye) == b""
    assert server.is_ended


def test_after_the_peer_ended_we_may_still_send(of_each_version: Pipes) -> None:
    client, server = of_each_version
    server.receive(client.close())
    assert client.receive(server.encrypt(b"an answer")) == b"an answer"


def test_both_say_goodbye(of_each_version: Pipes) -> None:
    client, server = of_each_version
    goodbye = client.close()
    server.receive(goodbye)
    assert client.receive(server.close()) == b""
    assert client.is_ended
    assert client.close() == b""


def test_goodbye_twice_is_said_once(connected: Pipes) -> None:
    client, _ = connected
    assert client.close()
    assert client.close() == b""


def test_goodbye_before_the_handshake_is_nothing(tls: TlsContexts) -> None:
    _, server = pipes(tls)
    assert server.close() == b""


class _PartlyTaken:
    """An SSL object that takes a few bytes at a time, as OpenSSL may do."""

    def __init__(self, take: Callable[[bytes], object]) -> None:
        self._take = take

    def write(self, data: bytes) -> int:
        part = bytes(data[:4])
        self._take(part)
        return len(part)


def test_what_was_taken_in_parts_is_sent_whole(connected: Pipes) -> None:
    client, server = connected
    client._object = _PartlyTaken(client._object.write)  # type: ignore[assignment]
    assert server.receive(client.encrypt(b"more than four")) == b"more than four"
