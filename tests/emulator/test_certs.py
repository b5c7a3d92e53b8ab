import contextlib
import ssl
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dsqlproxy.emulator.certs import (
    PRIVATE_LINK_SUFFIX,
    CertificateFiles,
    server_context,
    write_certificates,
)

CLUSTER = "4iabtxwqgmtxqz4ymbuovovmyy.dsql.us-east-1.on.aws"


@pytest.fixture
def files(tmp_path: Path) -> CertificateFiles:
    return write_certificates(tmp_path, region="us-east-1", now=datetime.now(UTC))


def shake_hands(files: CertificateFiles, server_name: str) -> ssl.SSLObject:
    """Join a verifying client and the emulator's context in memory."""
    context = ssl.create_default_context(cafile=files.ca_file)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["postgresql"])
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server, server_hostname=server_name)
    server = server_context(files.server_file).wrap_bio(
        to_server, to_client, server_side=True
    )
    for peer in (client, server, client, server):
        with contextlib.suppress(ssl.SSLWantReadError):
            peer.do_handshake()
    return client


@pytest.mark.parametrize(
    "name",
    [
        CLUSTER,
        CLUSTER.replace(".dsql.", f".{PRIVATE_LINK_SUFFIX}."),
        "localhost",
        "127.0.0.1",
        "::1",
    ],
)
def test_a_strict_client_accepts_each_name_of_the_emulator(
    files: CertificateFiles, name: str
) -> None:
    client = shake_hands(files, name)
    assert client.version() == "TLSv1.3"
    assert client.selected_alpn_protocol() == "postgresql"


def test_a_name_of_another_region_is_not_in_the_certificate(
    files: CertificateFiles,
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(files, CLUSTER.replace("us-east-1", "eu-west-1"))


def test_the_key_is_readable_for_its_owner_only(files: CertificateFiles) -> None:
    assert stat.S_IMODE(files.server_file.stat().st_mode) == 0o600
    assert b"PRIVATE" not in files.ca_file.read_bytes()
