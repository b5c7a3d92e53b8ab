"""What only ``check`` finds out: a clock that is off, a login that is of no use.

AWS documentation ("Signature Version 4"): what is signed more than five minutes off
is refused. A clock that is behind makes tokens older than they are, too: if it is so
by more than their lifetime, each has expired before it is sent.
"""

from typing import Final

from dsqlproxy.errors import ConnectionLost, Peer
from dsqlproxy.situations.remedies import Trouble, set_clock

NOTICED_SECONDS: Final = 5.0
"""More is worth a word: nothing seems to keep this clock."""

REFUSED_SECONDS: Final = 240.0
"""A minute less than what AWS tolerates."""


def offset_text(seconds_ahead: float) -> str:
    """Say how a clock stands to AWS's, which is known to a second."""
    size = abs(seconds_ahead)
    if size < 1:
        return "within 1 s of AWS"
    direction = "ahead of" if seconds_ahead > 0 else "behind"
    if size < 120:
        return f"{size:.0f} s {direction} AWS"
    return f"{size / 60:.0f} min {direction} AWS"


def clock_is_off(seconds_ahead: float) -> Trouble:
    """Say that the clock is off, and how to set it."""
    return Trouble(
        f"this machine's clock is {offset_text(seconds_ahead)}",
        detail="AWS refuses what is signed more than 5 min off, and a token that is "
        "signed behind AWS's time expires earlier.",
        hint="Let NTP set the clock; tokens are signed by it.",
        remedy=set_clock(),
    )


def clock_is_unknown(reason: str) -> str:
    """Say that there is nothing to compare the clock with; no trouble by itself."""
    return f"no time to compare with: STS was asked, but {reason}"


def no_answer(reason: str) -> ConnectionLost:
    """Say that a session was opened, and a statement got no answer."""
    return ConnectionLost(
        "the cluster did not answer a statement",
        peer=Peer.UPSTREAM,
        detail=f"It was SELECT 1, and the cluster {reason}.",
        hint="Try again; if it stays so, check the cluster's status.",
    )
