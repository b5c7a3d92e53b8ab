"""What may be tried again at a login that failed, and for how long (no I/O).

Only a login is ever tried again, when nothing of the client has been sent yet, and
only for a cause that another attempt can meet mended:

- *the signature has expired*: one new token, at once. If that one is too old as
  well, the clocks differ, and a third would not help;
- *no credentials*, or the cluster takes them for expired: as soon as there are
  others, so long as the client may be held;
- *the cluster wakes up, has too many connections, or counts too many logins*: as
  soon as the limiter lets one through, so long as the client may be held.

Everything else is final.
"""

from enum import Enum, auto

from dsqlproxy.errors import (
    DsqlProxyError,
    TokenError,
    TooManyConnections,
    UpstreamRejected,
)
from dsqlproxy.situations.cluster import Cause, cause_of

FIRST_DELAY_SECONDS = 0.1
MAX_DELAY_SECONDS = 2.0


class Remedy(Enum):
    """What makes another attempt worth while."""

    NONE = auto()
    NEW_TOKEN = auto()
    CREDENTIALS = auto()
    TIME = auto()


class Patience:
    """How one client's login bears what goes wrong; ``now`` is monotonic seconds."""

    def __init__(self, hold_seconds: float, *, now: float) -> None:
        self._began_at = now
        self._deadline = now + hold_seconds
        self._has_signed_anew = False
        self._delay_seconds = 0.0

    def seconds_left(self, now: float) -> float:
        """How much longer the client may be held."""
        return max(0.0, self._deadline - now)

    def seconds_held(self, now: float) -> float:
        """How long its login has taken so far."""
        return now - self._began_at

    def next_delay(self) -> float:
        """How long to wait before credentials are tried that others say are good.

        Not at all the first time; then longer and longer, should they not be.
        """
        delay = self._delay_seconds
        longer = max(2 * delay, FIRST_DELAY_SECONDS)
        self._delay_seconds = min(longer, MAX_DELAY_SECONDS)
        return delay

    def remedy(self, error: DsqlProxyError, now: float) -> Remedy:
        """Say what to wait for after a failure."""
        remedy = self._find(error)
        if remedy is Remedy.NEW_TOKEN:
            if self._has_signed_anew:
                return Remedy.NONE
            self._has_signed_anew = True
            return remedy
        return remedy if self.seconds_left(now) else Remedy.NONE

    @staticmethod
    def _find(error: DsqlProxyError) -> Remedy:
        match error:
            case TokenError():
                return Remedy.CREDENTIALS if error.may_pass else Remedy.NONE
            case UpstreamRejected():
                match cause_of(error):
                    case Cause.SIGNATURE_EXPIRED:
                        return Remedy.NEW_TOKEN
                    case Cause.CREDENTIALS_REFUSED:
                        return Remedy.CREDENTIALS
                    case cause:
                        return Remedy.TIME if cause.is_passing else Remedy.NONE
            case _:
                return Remedy.NONE


def was_held_for(error: DsqlProxyError) -> bool:
    """Say if it is one that clients are held for, once the time is over."""
    match error:
        case TokenError():
            return error.may_pass
        case UpstreamRejected():
            cause = cause_of(error)
            return cause.is_passing or cause is Cause.CREDENTIALS_REFUSED
        case _:
            return isinstance(error, TooManyConnections)
