"""How small commands find a running proxy's admin listener and ask it.

Standard library only, and the configuration is read only when it was named: a
health check runs every few seconds and should cost next to nothing.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

from dsqlproxy.config.addresses import TcpAddress, parse_tcp_listen
from dsqlproxy.errors import ConfigError, DsqlProxyError

DEFAULT_ADMIN: Final = TcpAddress("127.0.0.1", 9090)
ANSWER_SECONDS: Final = 5.0
"""More than the proxy gives its own event loop to answer, so that we hear of it."""
_MAX_BODY_BYTES: Final = 64 * 1024 * 1024
_ANY_TO_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


class NoAnswer(DsqlProxyError):
    """No dsqlproxy answers at the address."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON object, and whether it came with status 200."""

    ok: bool
    body: dict[str, object]

    @property
    def reason(self) -> str:
        """What the proxy gave as the reason."""
        return str(self.body.get("reason") or self.body.get("error") or "no reason")


def add_admin_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the flags that say where the admin listener is."""
    parser.add_argument(
        "--admin",
        metavar="HOST:PORT",
        help=f"the proxy's admin.listen (default {DEFAULT_ADMIN})",
    )
    parser.add_argument(
        "--ready-file",
        metavar="PATH",
        type=Path,
        help="take the address from the file that the proxy wrote",
    )
    parser.add_argument(
        "--config",
        metavar="PATH",
        type=Path,
        help="take the address from the proxy's configuration",
    )


def find_admin(args: argparse.Namespace, environ: Mapping[str, str]) -> TcpAddress:
    """Give the address to ask: flag, then environment, then file, then default.

    Raises ConfigError for what cannot be an address, NoAnswer for a ready file that
    is not there yet.
    """
    if args.admin is not None:
        return _address(args.admin, source="--admin")
    if args.ready_file is not None:
        return _from_ready_file(args.ready_file)
    if listen := environ.get("DSQLPROXY_ADMIN_LISTEN"):
        return _address(listen, source="DSQLPROXY_ADMIN_LISTEN")
    if config := args.config or environ.get("DSQLPROXY_CONFIG"):
        return _from_config(Path(config))
    return DEFAULT_ADMIN


def ask(address: TcpAddress, path: str, *, timeout: float = ANSWER_SECONDS) -> Answer:
    """Give the proxy's answer; NoAnswer when there is none, or from another program."""
    connection = HTTPConnection(address.host, address.port, timeout=timeout)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = json.loads(response.read(_MAX_BODY_BYTES))
    except TimeoutError as error:
        raise NoAnswer(f"no answer from {address} within {timeout:g} s") from error
    except OSError as error:
        raise NoAnswer(
            f"nothing answers at {address}: {error.strerror or error}",
            hint="Is dsqlproxy running, and is this its admin.listen? Name another "
            "with --admin HOST:PORT; a demo prints its own.",
        ) from error
    except (HTTPException, ValueError) as error:
        raise _another_program(address) from error
    finally:
        connection.close()
    if not isinstance(body, dict):
        raise _another_program(address)
    return Answer(response.status == 200, body)


def ask_readiness(address: TcpAddress, *, timeout: float = ANSWER_SECONDS) -> Answer:
    """Ask whether the proxy is ready."""
    answer = ask(address, "/readiness", timeout=timeout)
    if not isinstance(answer.body.get("ok"), bool):
        raise _another_program(address)
    return answer


def _another_program(address: TcpAddress) -> NoAnswer:
    return NoAnswer(
        f"what answers at {address} is not dsqlproxy",
        hint="Name the proxy's own admin.listen with --admin",
    )


def _address(text: str, *, source: str) -> TcpAddress:
    if text == "off":
        raise ConfigError(
            [f"{source}: the admin listener is off, nothing can be asked"]
        )
    try:
        address = parse_tcp_listen(text)
    except ValueError as error:
        raise ConfigError([f"{source}: {error}"]) from None
    return _reachable(address, source=source)


def _reachable(address: TcpAddress, *, source: str) -> TcpAddress:
    """Turn an address to listen on into one to connect to."""
    if address.port == 0:
        raise ConfigError(
            [f"{source}: port 0 stands for any; name the true one, or --ready-file"]
        )
    return TcpAddress(_ANY_TO_LOOPBACK.get(address.host, address.host), address.port)


def _from_ready_file(path: Path) -> TcpAddress:
    try:
        admin = json.loads(path.read_text(encoding="utf-8"))["admin"]
    except FileNotFoundError:
        raise NoAnswer(f"the ready file {path} does not exist (yet)") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError([f"--ready-file: {path} is not a ready file"]) from error
    if admin is None:
        raise ConfigError(["--ready-file: the proxy's admin listener is off"])
    try:
        address = TcpAddress(str(admin["host"]), int(admin["port"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError([f"--ready-file: {path} is not a ready file"]) from error
    return _reachable(address, source="--ready-file")


def _from_config(path: Path) -> TcpAddress:
    # Other keys of the file are not this command's business: a health check goes
    # on working while somebody edits them.
    from dsqlproxy.config.file import read_file  # noqa: PLC0415 - heavy
    from dsqlproxy.config.values import parse_admin_listen  # noqa: PLC0415

    tree, _ = read_file(path)
    admin = tree.get("admin")
    if not isinstance(admin, dict) or "listen" not in admin:
        return DEFAULT_ADMIN
    source = f"admin.listen in {path}"
    try:
        address = parse_admin_listen(admin["listen"])
    except ValueError as error:
        raise ConfigError([f"{source}: {error}"]) from None
    if address is None:
        raise ConfigError([f"{source}: is off, nothing can be asked"])
    return _reachable(address, source=source)
