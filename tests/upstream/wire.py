"""What a cluster says at login, and certificates for whoever plays one."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import trustme

from dsqlproxy.pgproto.codes import BackendType
from dsqlproxy.pgproto.framing import frame
from dsqlproxy.pgproto.messages import ErrorResponse

CLUSTER = "4iabtxwqgmtxqz4ymbuovovmyy.dsql.us-east-1.on.aws"
REGION = "us-east-1"


def authentication(code: int, data: bytes = b"") -> bytes:
    """Give the frame of an AuthenticationXXX message."""
    return frame(BackendType.AUTHENTICATION, code.to_bytes(4) + data)


def refusal(
    message: str, *, sqlstate: str = "08006", detail: str = "", hint: str = ""
) -> bytes:
    """Give the frame of a FATAL error."""
    error = ErrorResponse.build("FATAL", sqlstate, message, detail=detail, hint=hint)
    return error.encode()


OK = authentication(0)
CLEARTEXT = authentication(3)
STATUS = frame(BackendType.PARAMETER_STATUS, b"server_version\x0016.15\x00")
KEY = frame(BackendType.BACKEND_KEY_DATA, b"\x00\x00\x00\x2akey!")
READY = frame(BackendType.READY_FOR_QUERY, b"I")
GREETING = OK + STATUS + KEY + READY


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority of the test's own."""

    ca: trustme.CA
    ca_file: Path

    @classmethod
    def make(cls, folder: Path) -> Self:
        """Make one, its certificate in a file of that folder."""
        ca = trustme.CA()
        ca_file = folder / "ca.pem"
        ca.cert_pem.write_to_path(str(ca_file))
        return cls(ca, ca_file)

    def server_context(
        self, *names: str, alpn: bool = True, **issue: object
    ) -> ssl.SSLContext:
        """Make the context of a server with a certificate for these names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issue_cert: Callable[..., trustme.LeafCert] = self.ca.issue_cert
        issue_cert(*(names or (CLUSTER,)), **issue).configure_cert(context)
        if alpn:
            context.set_alpn_protocols(["postgresql"])
        return context
