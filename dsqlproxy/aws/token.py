"""What is asked to be signed, and what comes of it: values (no I/O)."""

from dataclasses import dataclass

from dsqlproxy.aws.credentials import Credentials
from dsqlproxy.aws.secret import Secret
from dsqlproxy.dsql import MAX_TOKEN_LIFETIME_SECONDS, MIN_TOKEN_LIFETIME_SECONDS
from dsqlproxy.situations.signing import lifetime_out_of_range, request_incomplete


@dataclass(frozen=True, slots=True)
class SigningRequest:
    """For which cluster, database role and span a token is wanted."""

    host: str
    region: str
    role: str
    lifetime_seconds: int

    def __post_init__(self) -> None:
        shortest, longest = MIN_TOKEN_LIFETIME_SECONDS, MAX_TOKEN_LIFETIME_SECONDS
        if not shortest <= self.lifetime_seconds <= longest:
            raise lifetime_out_of_range(self.lifetime_seconds)
        if not (self.host and self.region and self.role):
            raise request_incomplete()


class Token:
    """A signed token. Printing it shows what it is for; `reveal` gives its value.

    ``signed_by`` are the credentials that a refusal of the token speaks of.
    """

    __slots__ = ("_value", "lifetime_seconds", "role", "signed_by")

    def __init__(
        self,
        value: Secret | str,
        *,
        role: str,
        lifetime_seconds: int,
        signed_by: Credentials | None = None,
    ) -> None:
        self._value = value if isinstance(value, Secret) else Secret(value)
        self.role = role
        self.lifetime_seconds = lifetime_seconds
        self.signed_by = signed_by

    def reveal(self) -> str:
        """Give the value, to be sent to the cluster and nowhere else."""
        return self._value.reveal()

    def __repr__(self) -> str:
        return f"<token for role {self.role}, {self.lifetime_seconds} s>"

    def __reduce__(self) -> str:
        # A pickle is a print by another name.
        raise TypeError("a token cannot be pickled")
