"""``dsqlproxy token``: one token on standard output."""

import argparse
from typing import TYPE_CHECKING

from dsqlproxy.commands import options
from dsqlproxy.commands.clocks import system_clocks
from dsqlproxy.dsql import ADMIN_ROLE
from dsqlproxy.errors import ConfigError, TokenError

if TYPE_CHECKING:
    from dsqlproxy.aws.tokens import SigningRequest, Token
    from dsqlproxy.config import Config, ListenerConfig

HELP = """\
Sign one IAM token for a cluster and print it on standard output, nothing else.

The token is what the proxy would send as the password of a login: for a
program that connects without the proxy, or to see if credentials are found.

    PGPASSWORD=$(dsqlproxy token --config proxy.yaml) psql \\
        "host=<26 characters>.dsql.us-east-1.on.aws user=admin dbname=postgres \\
         sslmode=verify-full sslrootcert=system"

(An older psql than 16 wants a file there: Debian's is
/etc/ssl/certs/ca-certificates.crt.)

Signing happens on this machine. It succeeds with credentials that AWS no
longer accepts; the cluster then refuses the login.

The role is that of --role, else the listener's role, else the only one of its
roles, else admin. The token of admin carries the action dsql:DbConnectAdmin,
that of any other role dsql:DbConnect. It is valid for the listener's
token_lifetime.

Who has the token is who you are until it expires: do not put it in a file or on
a command line.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define which cluster, and which role, the token is for."""
    options.add_cluster_arguments(parser)
    group = parser.add_argument_group("token")
    group.add_argument(
        "--listener",
        metavar="NAME",
        help="the listener whose cluster it is for, where the file has several",
    )
    group.add_argument("--role", metavar="ROLE", help="the role it is for")


def run(args: argparse.Namespace) -> int:
    """Print a token."""
    import asyncio  # noqa: PLC0415 - not for --help

    listener = choose_listener(options.load(args).config, args.listener)
    request = signing_request(listener, args.role)
    token = asyncio.run(_sign(listener, request))
    print(token.reveal())
    return 0


def choose_listener(config: "Config", name: str | None) -> "ListenerConfig":
    """Find the listener of that name, or the only one; ConfigError names them all."""
    names = ", ".join(listener.name for listener in config.listeners)
    if name is None:
        if len(config.listeners) == 1:
            return config.listeners[0]
        raise ConfigError([f"--listener: is needed to choose one of: {names}"])
    for listener in config.listeners:
        if listener.name == name:
            return listener
    raise ConfigError([f'--listener: there is no "{name}"; accepted: {names}'])


def signing_request(listener: "ListenerConfig", role: str | None) -> "SigningRequest":
    """Say what to sign for a listener, and for ``role`` if one is given."""
    from dsqlproxy.aws.tokens import SigningRequest  # noqa: PLC0415

    if role is not None and not role:
        raise ConfigError(["--role: is empty; accepted: the name of a role"])
    roles = listener.roles or ()
    return SigningRequest(
        host=listener.endpoint.host,
        region=listener.endpoint.region,
        role=role or listener.role or (roles[0] if len(roles) == 1 else ADMIN_ROLE),
        lifetime_seconds=listener.token_lifetime,
    )


def _without_proxy(error: TokenError) -> TokenError:
    """Give the same error with a hint for somebody who runs a command."""
    from dsqlproxy.situations.restart import for_a_command  # noqa: PLC0415

    hint = for_a_command(error.hint).replace("`profile`", "`--profile`")
    return TokenError(
        error.message, detail=error.detail, hint=hint, may_pass=error.may_pass
    )


async def _sign(listener: "ListenerConfig", request: "SigningRequest") -> "Token":
    from dsqlproxy.aws.credentials import Identity  # noqa: PLC0415
    from dsqlproxy.aws.tokens import TokenSource  # noqa: PLC0415

    source = TokenSource(
        Identity(listener.profile, listener.assume_role),
        region=request.region,
        clocks=system_clocks(),
    )
    try:
        return await source.sign(request)
    except TokenError as error:
        raise _without_proxy(error) from None
    finally:
        source.close()
