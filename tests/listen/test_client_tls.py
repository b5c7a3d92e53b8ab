import builtins
import ssl
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from dsqlproxy.channel.tls import TlsPipe
from dsqlproxy.errors import ConfigError
from dsqlproxy.listen.client_tls import context_from_files, self_signed_context

NOW = datetime.now(UTC)


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> TlsPipe:
    """Do a TLS handshake in memory; give the client's end."""
    near = TlsPipe(client, server_hostname=name)
    far = TlsPipe(server, server_side=True)
    near.handshake()
    far.handshake(near.take_output())
    assert near.handshake(far.take_output())
    assert far.handshake(near.take_output())
    return near


def client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["postgresql", "http/1.1"])
    return context


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Certificate and key of db.example, made by nobody in particular."""
    leaf = trustme.CA().issue_cert("db.example")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    leaf.cert_chain_pems[0].write_to_path(str(certificate))
    leaf.private_key_pem.write_to_path(str(key))
    return certificate, key


def test_files_serve_a_client(files: tuple[Path, Path]) -> None:
    pipe = shake_hands(context_from_files(*files), client_context(), "db.example")
    assert pipe.version == "TLSv1.3"
    assert pipe.alpn == "postgresql"


def test_old_versions_of_tls_are_not_served(files: tuple[Path, Path]) -> None:
    context = context_from_files(*files)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("missing", ["certificate", "key"])
def test_a_missing_file_is_named(files: tuple[Path, Path], missing: str) -> None:
    certificate, key = files
    (certificate if missing == "certificate" else key).unlink()
    with pytest.raises(ConfigError, match=r"client_tls: .*certificate\.pem .*key\.pem"):
        context_from_files(certificate, key)


def test_a_key_of_another_certificate_does_not_do(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().issue_cert("x.example").private_key_pem.write_to_path(str(other))
    with pytest.raises(ConfigError, match="cannot be used"):
        context_from_files(files[0], other)


def test_what_is_no_certificate_does_not_do(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("not a certificate")
    with pytest.raises(ConfigError, match="accepted: a PEM certificate"):
        context_from_files(junk, files[1])


def test_an_encrypted_key_is_refused_and_asks_nobody(files: tuple[Path, Path]) -> None:
    certificate, key_file = files
    key = load_pem_private_key(key_file.read_bytes(), None)
    key_file.write_bytes(
        key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"phrase")
        )
    )
    with pytest.raises(ConfigError, match="unencrypted"):
        context_from_files(certificate, key_file)


def test_a_self_signed_certificate_serves_a_client() -> None:
    context = self_signed_context(now=NOW)
    pipe = shake_hands(context, client_context(), "localhost")
    assert pipe.alpn == "postgresql"


def test_a_self_signed_certificate_is_not_trusted() -> None:
    verifying = ssl.create_default_context()
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(self_signed_context(now=NOW), verifying, "localhost")


def test_a_self_signed_certificate_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    self_signed_context(now=NOW)
    assert list(tmp_path.iterdir()) == []


def test_without_the_package_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = builtins.__import__

    def without_cryptography(name: str, *rest: object, **named: object) -> object:
        if name.startswith("cryptography"):
            raise ImportError(name)
        return original(name, *rest, **named)  # type: ignore[arg-type]

    for name in [name for name in sys.modules if name.startswith("cryptography")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without_cryptography)
    with pytest.raises(ConfigError, match=r"pip install '\.\[tls\]'"):
        self_signed_context(now=NOW)
