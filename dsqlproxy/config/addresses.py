"""Addresses to listen on and to dial, as users write them."""

import os
import re
import sys
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from dsqlproxy.config.refusal import not_text, refused
from dsqlproxy.dsql import PORT

ACCEPTED_TCP: Final = "host:port or [IPv6]:port, such as 127.0.0.1:5432 or [::1]:5432"
ACCEPTED_LISTEN: Final = (
    f"{ACCEPTED_TCP}, unix:/directory, unix:/directory:port, or unix:/path/to/name.sock"
)
ACCEPTED_HOST: Final = "a host name"

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_MAX_HOST_NAME: Final = 253
_TCP: Final = re.compile(r"(?:\[([^\[\]]*)\]|([^\[\]:]*)):([0-9]{1,6})")
_UNIX_PORT: Final = re.compile(r"(.*):([0-9]{1,6})", re.DOTALL)

# PostgreSQL manual (libpq, host): clients given a directory look for this name in it.
_SOCKET_NAME: Final = ".s.PGSQL."


def max_unix_path_bytes() -> int:
    """Give the longest path of a unix socket: sun_path without its final zero byte."""
    return 107 if sys.platform.startswith("linux") else 103


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host name or IP address, and a port; port 0 means any free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it; ``localhost`` counts."""
        if self.host.lower() == "localhost":
            return True
        address = _ip_address(self.host)
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            return address.ipv4_mapped.is_loopback
        return address is not None and address.is_loopback

    def __str__(self) -> str:
        """Write it as it would stand in the file."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """The full path of a unix socket."""

    path: str

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it; always."""
        return True

    def __str__(self) -> str:
        """Write it as it would stand in the file."""
        return f"unix:{self.path}"


Address = TcpAddress | UnixAddress


def parse_listen(value: object) -> Address:
    """Read an address to listen on; ValueError says what is accepted."""
    if isinstance(value, TcpAddress | UnixAddress):
        return value
    if not isinstance(value, str):
        raise not_text(value, accepted=ACCEPTED_LISTEN)
    if value.startswith("unix:"):
        return _parse_unix(value)
    if value.startswith("/"):
        raise refused(
            value, "is a path; write unix: before it", accepted=ACCEPTED_LISTEN
        )
    return _parse_tcp(value, accepted=ACCEPTED_LISTEN)


def parse_tcp_listen(value: object) -> TcpAddress:
    """Read a TCP address to listen on; ValueError says what is accepted."""
    if isinstance(value, TcpAddress):
        return value
    if not isinstance(value, str):
        raise not_text(value, accepted=ACCEPTED_TCP)
    if value.startswith(("unix:", "/")):
        raise refused(value, "is a unix socket", accepted=ACCEPTED_TCP)
    return _parse_tcp(value, accepted=ACCEPTED_TCP)


def parse_dial(value: object) -> TcpAddress:
    """Read a TCP address to connect to; ValueError says what is accepted."""
    address = parse_tcp_listen(value)
    if address.port == 0:
        raise refused(
            value, "has port 0, to which nothing can connect", accepted=ACCEPTED_TCP
        )
    return address


def parse_host_name(value: object) -> str:
    """Read a host name for SNI and verification; ValueError says what is accepted."""
    if not isinstance(value, str):
        raise not_text(value, accepted=ACCEPTED_HOST)
    if _ip_address(value.strip("[]")):
        # RFC 6066, 3: literal addresses are not permitted in SNI, and without SNI a
        # cluster refuses the connection (AWS documentation, troubleshooting).
        raise refused(value, "is an IP address", accepted=ACCEPTED_HOST)
    if not _is_host_name(value):
        raise refused(value, "is not a host name", accepted=ACCEPTED_HOST)
    return value


def _parse_tcp(text: str, *, accepted: str) -> TcpAddress:
    found = _TCP.fullmatch(text)
    if not found:
        raise refused(text, _tcp_complaint(text), accepted=accepted)
    bracketed, host, digits = found.groups()
    port = int(digits)
    if port > 65_535:
        raise refused(text, f"has port {port}, above 65535", accepted=accepted)
    if bracketed is not None:
        if not isinstance(_ip_address(bracketed), IPv6Address):
            raise refused(
                text, f'has "{bracketed}", which is not IPv6', accepted=accepted
            )
        return TcpAddress(bracketed, port)
    if not host or host == "*":
        wrong = "has no host; every address would be 0.0.0.0, which others can reach"
        raise refused(text, wrong, accepted=accepted)
    if not _is_host_name(host):
        raise refused(text, f'has "{host}", which is not a host', accepted=accepted)
    return TcpAddress(host, port)


def _tcp_complaint(text: str) -> str:
    if text.count(":") > 1 and "[" not in text and _ip_address(text.rpartition(":")[0]):
        return "has an IPv6 address without brackets"
    if "://" in text:
        return "is a URL"
    if text.isdecimal():
        return f"has no host (127.0.0.1:{text} is meant?)"
    if ":" not in text:
        return "has no port"
    return "is not an address"


def _parse_unix(text: str) -> UnixAddress:
    path = text.removeprefix("unix:")
    port = str(PORT)
    if has_port := _UNIX_PORT.fullmatch(path):
        path, port = has_port.groups()
        if not 1 <= int(port) <= 65_535:
            wrong = f"has port {port}, which is not 1 to 65535"
            raise refused(text, wrong, accepted=ACCEPTED_LISTEN)
    if not path.startswith("/") or "\0" in path:
        raise refused(text, "is not an absolute path", accepted=ACCEPTED_LISTEN)
    if _names_a_socket(path):
        if has_port:
            wrong = "has a port after the name of a socket"
            raise refused(text, wrong, accepted=ACCEPTED_LISTEN)
    else:
        path = os.path.join(path.rstrip("/") or "/", f"{_SOCKET_NAME}{int(port)}")
    length, limit = len(os.fsencode(path)), max_unix_path_bytes()
    if length > limit:
        wrong = f"leads to a socket path of {length} bytes; the system allows {limit}"
        raise refused(text, wrong, accepted="a shorter path")
    return UnixAddress(path)


def _names_a_socket(path: str) -> bool:
    """Tell a socket from a directory by its name, so that a restart decides the same.

    A name of PostgreSQL's own form, or one that ends in .sock or .socket, is a
    socket, unless a directory of that name is there; anything else is a directory.
    """
    name = os.path.basename(path)
    if not name.startswith(_SOCKET_NAME) and not name.endswith((".sock", ".socket")):
        return False
    return not os.path.isdir(path)


def _is_host_name(text: str) -> bool:
    if re.fullmatch(r"[0-9.]+", text):
        # The resolver would read 127.1 or 010.0.0.1 as addresses, few people do.
        return isinstance(_ip_address(text), IPv4Address)
    return len(text) <= _MAX_HOST_NAME and bool(_HOST_NAME.fullmatch(text))


def _ip_address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
