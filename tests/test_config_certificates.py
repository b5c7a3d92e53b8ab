from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import ValidationError

from dsqlproxy.config import certificates
from dsqlproxy.config.certificates import (
    check_key_pair,
    check_self_signing,
    parse_authorities,
)
from dsqlproxy.config.model import ListenerConfig

CLUSTER = "abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws"


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    issued = trustme.CA().issue_cert("x.example")
    cert_file, key_file = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(str(cert_file))
    issued.private_key_pem.write_to_path(str(key_file))
    return cert_file, key_file


def test_authorities_are_certificates(pair: tuple[Path, Path]) -> None:
    assert parse_authorities(str(pair[0])) == pair[0]
    assert parse_authorities(pair[0]) == pair[0]


@pytest.mark.parametrize("content", ["", "host\n", "-----BEGIN CERTIFICATE-----\n"])
def test_authorities_are_nothing_else(tmp_path: Path, content: str) -> None:
    file = tmp_path / "junk.pem"
    file.write_text(content)
    with pytest.raises(
        ValueError, match=r'junk\.pem" holds no cert.*; accepted: a PEM'
    ):
        parse_authorities(str(file))


def test_a_certificate_and_its_key_fit(pair: tuple[Path, Path]) -> None:
    check_key_pair(*pair)


def test_a_key_of_another_certificate_does_not_fit(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().issue_cert("x.example").private_key_pem.write_to_path(str(other))
    with pytest.raises(
        ValueError, match=r'cert\.pem" and ".*other\.pem" cannot be used'
    ):
        check_key_pair(pair[0], other)


def test_a_key_with_a_passphrase_asks_nobody(pair: tuple[Path, Path]) -> None:
    cert_file, key_file = pair
    key = load_pem_private_key(key_file.read_bytes(), None)
    key_file.write_bytes(
        key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"phrase")
        )
    )
    with pytest.raises(ValueError, match="unencrypted"):
        check_key_pair(cert_file, key_file)


def test_auto_needs_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    check_self_signing()
    monkeypatch.setattr(certificates, "find_spec", lambda _: None)
    with pytest.raises(ValidationError, match="auto needs the package cryptography"):
        ListenerConfig(cluster=CLUSTER, client_tls="auto")
    assert ListenerConfig(cluster=CLUSTER, client_tls="off").client_tls == "off"
