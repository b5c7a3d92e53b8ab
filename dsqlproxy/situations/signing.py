"""What is wrong with a token that is to be signed, told as a `TokenError`.

Only another configuration of the proxy mends these, or another release.
"""

from dsqlproxy.errors import TokenError
from dsqlproxy.situations.credentials import CredentialOrigin


def lifetime_out_of_range(seconds: float) -> TokenError:
    """Refuse to sign for so long, or so short."""
    return TokenError(
        "the token lifetime is out of range",
        detail=f"{seconds} s was asked for.",
        hint="Set `token_lifetime` to between 1s and 7d.",
        may_pass=False,
    )


def request_incomplete() -> TokenError:
    """Refuse to sign for nobody, or nowhere."""
    return TokenError("a token needs a host, a Region and a role", may_pass=False)


def not_signed(error: Exception, origin: CredentialOrigin) -> TokenError:
    """Say that signing itself failed, with credentials that were found."""
    return TokenError(
        "could not sign a token",
        detail=f"{origin.subject} gave credentials, but signing failed with "
        f"{type(error).__name__}.",
        hint="This is a bug of the proxy, or of the installed botocore.",
        may_pass=False,
    )
