"""Certificates, looked at while the configuration is read.

Loading them here finds what is wrong together with all other problems, each with its
path. What is loaded is dropped: whoever serves or dials with it loads it again.
"""

import ssl
from importlib.util import find_spec
from pathlib import Path

from dsqlproxy.config.refusal import given, refused
from dsqlproxy.config.values import parse_readable_file


def parse_authorities(value: object) -> Path:
    """Read the path of a PEM file of certificates to trust."""
    path = parse_readable_file(value)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError as error:  # ssl.SSLError is one too
        raise refused(
            str(path),
            "holds no certificates that can be read",
            accepted="a PEM file of the authorities to trust",
        ) from error
    return path


def check_key_pair(cert_file: Path, key_file: Path) -> None:
    """Raise ValueError unless the two files are a certificate and its key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # A key with a pass phrase must not make a daemon ask on the terminal.
        context.load_cert_chain(cert_file, key_file, password=lambda: "")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or "no PEM"
        raise ValueError(
            f"{given(str(cert_file))} and {given(str(key_file))} cannot be used "
            f"together ({reason}); accepted: a PEM "
            "certificate (chain) and its unencrypted PEM key"
        ) from error


def check_self_signing() -> None:
    """Raise ValueError unless a certificate of our own can be made."""
    if find_spec("cryptography") is None:
        raise ValueError(
            "auto needs the package cryptography, which is not installed; accepted: "
            "off, a mapping of cert_file and key_file, or auto after "
            "pip install '.[tls]' in the checkout"
        )
