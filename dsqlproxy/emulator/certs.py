"""A certificate authority of a few minutes' life, and the emulator's certificate.

The files go into one private directory: ``ca.pem`` is for clients, ``server.pem``
holds chain and key of the emulator. Needs ``cryptography``.
"""

import ipaddress
import os
import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ALPN_PROTOCOL: Final = "postgresql"
PRIVATE_LINK_SUFFIX: Final = "dsql-emul"
"""What stands for ``dsql`` in the emulator's PrivateLink name."""

_LIFETIME: Final = timedelta(days=30)
_BACKDATED: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where the certificates of one emulator lie."""

    ca_file: Path
    server_file: Path


def write_certificates(
    directory: Path, *, region: str, now: datetime
) -> CertificateFiles:
    """Make an authority and a certificate for a region's clusters in ``directory``."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = _name("dsqlproxy emulator CA")
    authority = _sign(
        _builder(ca_name, ca_name, ca_key.public_key(), now=now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(of_authority=True), critical=True),
        key_identifier=x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()),
        issuer_key=ca_key,
    )
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = _sign(
        _builder(_name(f"dsql.{region}.on.aws"), ca_name, key.public_key(), now=now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(of_authority=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
        .add_extension(_alternative_names(region), critical=False),
        key_identifier=x509.SubjectKeyIdentifier.from_public_key(key.public_key()),
        issuer_key=ca_key,
    )
    files = CertificateFiles(
        ca_file=directory / "ca.pem", server_file=directory / "server.pem"
    )
    files.ca_file.write_bytes(_pem(authority))
    _write_private(files.server_file, _pem(leaf) + _pem(authority) + _key_pem(key))
    return files


def server_context(server_file: Path) -> ssl.SSLContext:
    """Return a TLS context as the cluster has it: 1.2 or later, ALPN.

    AWS documentation: TLS 1.2 with perfect forward secrecy or later. The default
    ciphers of the standard library have forward secrecy.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(server_file)
    context.set_alpn_protocols([ALPN_PROTOCOL])
    return context


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "dsqlproxy emulator"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    *,
    now: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _LIFETIME)
    )


def _sign(
    builder: x509.CertificateBuilder,
    *,
    key_identifier: x509.SubjectKeyIdentifier,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    # Strict verifiers (Python 3.13's default) insist on both key identifiers.
    return (
        builder.add_extension(key_identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
        .sign(issuer_key, hashes.SHA256())
    )


def _key_usage(*, of_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=of_authority,
        crl_sign=of_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_names(region: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName(
        [
            x509.DNSName(f"*.dsql.{region}.on.aws"),
            x509.DNSName(f"*.{PRIVATE_LINK_SUFFIX}.{region}.on.aws"),
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            x509.IPAddress(ipaddress.ip_address("::1")),
        ]
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
