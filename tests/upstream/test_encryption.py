import ssl
from pathlib import Path

import pytest

from dsqlproxy.errors import ConfigError
from dsqlproxy.upstream import encryption
from dsqlproxy.upstream.encryption import client_context, has_authorities
from tests.upstream.wire import Authority


def paths(capath: Path | None) -> ssl.DefaultVerifyPaths:
    return ssl.get_default_verify_paths()._replace(capath=str(capath or ""))


def empty_context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def test_context_verifies_chain_and_name() -> None:
    context = client_context(None)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_context_refuses_renegotiation() -> None:
    assert client_context(None).options & ssl.OP_NO_RENEGOTIATION


def test_ca_file_takes_the_place_of_the_system(authority: Authority) -> None:
    context = client_context(authority.ca_file)
    assert context.cert_store_stats()["x509_ca"] == 1


@pytest.mark.parametrize("content", [None, "", "not a certificate"])
def test_bad_ca_file_is_a_configuration_error(
    tmp_path: Path, content: str | None
) -> None:
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        client_context(ca_file)
    (problem,) = caught.value.problems
    assert problem.startswith(f'ca_file: "{ca_file}"')


def test_a_file_of_authorities_counts(authority: Authority) -> None:
    context = empty_context()
    assert not has_authorities(context, paths(None))
    context.load_verify_locations(authority.ca_file)
    assert has_authorities(context, paths(None))


def test_a_folder_of_hashed_authorities_counts(tmp_path: Path) -> None:
    context = empty_context()
    (tmp_path / "README").touch()
    assert not has_authorities(context, paths(tmp_path))
    (tmp_path / "ce5e74ef.0").touch()
    assert has_authorities(context, paths(tmp_path))


def test_system_without_authorities_gets_those_of_botocore(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert "Amazon Root CA 1" in str(client_context(None).get_ca_certs())


def test_no_authorities_at_all_is_a_configuration_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    monkeypatch.setattr(encryption, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="ca_file"):
        client_context(None)
