"""TLS towards clients: from certificate files, or self-signed at start.

It serves clients that insist on ``sslmode=require``. The self-signed certificate
is not meant to be verified: it lives in memory and changes at each start.
"""

import os
import ssl
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

from dsqlproxy.errors import ConfigError
from dsqlproxy.listen.handshake import ALPN


def context_from_files(cert_file: Path, key_file: Path) -> ssl.SSLContext:
    """Load a certificate chain and its key; `ConfigError` when they do not fit."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([ALPN])
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        # A key with a pass phrase must not make a daemon ask on the terminal.
        context.load_cert_chain(cert_file, key_file, password=lambda: "")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        problem = (
            f"client_tls: {cert_file} and {key_file} cannot be used ({reason});"
            " accepted: a PEM certificate (chain) and its unencrypted PEM key"
        )
        raise ConfigError([problem]) from None
    return context


def self_signed_context(*, now: datetime) -> ssl.SSLContext:
    """Make a key and a certificate for this machine's loopback names.

    Needs the extra ``tls``; `ConfigError` says so where it is not installed.
    """
    try:
        certificate, key = _self_signed(now)
    except ImportError:
        problem = (
            "client_tls: auto needs the package cryptography;"
            " pip install '.[tls]' in the checkout, or name cert_file and key_file"
        )
        raise ConfigError([problem]) from None
    # ssl loads keys from files only; this one exists for the length of the call.
    descriptor, name = tempfile.mkstemp(prefix="dsqlproxy-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(certificate + key)
        return context_from_files(Path(name), Path(name))
    finally:
        Path(name).unlink()


def _self_signed(now: datetime) -> tuple[bytes, bytes]:
    from ipaddress import ip_address  # noqa: PLC0415 - with the optional package

    from cryptography import x509  # noqa: PLC0415 - an optional, slow import
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name.from_rfc4514_string("CN=dsqlproxy (self-signed)")
    names: list[x509.GeneralName] = [x509.DNSName("localhost")]
    names += [x509.IPAddress(ip_address(host)) for host in ("127.0.0.1", "::1")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
