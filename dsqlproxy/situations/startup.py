"""What a client may get wrong before it has asked for a session.

`ProtocolError` (08P01) where it speaks PostgreSQL's protocol, or seems to; a
`Departure` where it would not understand an answer and gets none.
"""

from typing import Final, NamedTuple

from dsqlproxy.errors import ProtocolError
from dsqlproxy.situations.holding import Remark


def explained(error: ProtocolError) -> ProtocolError:
    """Add to what is wrong with a startup packet what may be behind it."""
    return ProtocolError(
        error.message,
        detail=error.detail,
        hint=error.hint or "Is this a PostgreSQL client?",
    )


def asked_twice(request: str) -> ProtocolError:
    """Say that a client asked for the same encryption again."""
    return ProtocolError(
        f"a second {request}", hint="This is a bug of the client or its driver."
    )


def data_before_encryption(what: str) -> ProtocolError:
    """Say that bytes came which anyone on the way may have put there."""
    return ProtocolError(
        f"received unencrypted data after {what} request",
        detail="This could be either a client-software bug or evidence of an"
        " attempted man-in-the-middle attack.",
    )


def no_alpn() -> ProtocolError:
    """Say that TLS came from a client that may be of another protocol."""
    return ProtocolError(
        "direct TLS without the application protocol (ALPN) postgresql",
        hint="Let the client begin TLS with a request (sslnegotiation=postgres), or "
        "have whatever begins it offer ALPN postgresql.",
    )


class Departure(NamedTuple):
    """The end of a connection without a word to its client; both are for the log."""

    reason: str
    hint: str = ""


_OFFER_TLS: Final = "Set client_tls: auto, or connect with sslmode=disable or prefer."


def tls_not_offered() -> Departure:
    """Say that a client began TLS where there is none."""
    reason = "the client began TLS, which this listener does not offer"
    return Departure(reason, _OFFER_TLS)


def tls_wanted() -> Departure:
    """Say that a client asked for TLS, and left when there was none."""
    reason = "the client wants TLS, which this listener does not offer"
    return Departure(reason, _OFFER_TLS)


def speaks_http() -> Departure:
    """Say that a browser, or a health check, has come to the wrong port."""
    return Departure("the client speaks HTTP", "This is a PostgreSQL port.")


def tls_failed(reason: str) -> Departure:
    """Say that TLS could not be agreed upon with a client."""
    return Departure(
        f"TLS with the client failed ({reason})",
        "A client that verifies must trust the listener's certificate.",
    )


def parameters_left_out(names: tuple[str, ...]) -> Remark:
    """Say which startup parameters did not go to the cluster."""
    listed = ", ".join(f'"{name}"' for name in names)
    return Remark(
        f"startup parameters not supported by Aurora DSQL were left out: {listed}",
        hint="Remove them from the connection settings, or set"
        " unsupported_parameters: pass to send them anyway.",
    )
