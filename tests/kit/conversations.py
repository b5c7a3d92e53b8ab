"""Conversations told to a tracker by their symbols, without frames.

Scripts are written as in `tests.kit.frames`, but each letter stands for itself: here
``P`` is a Parse of a named statement and ``U`` of the unnamed one, ``C`` closes a
statement and ``O`` a portal (`pgproto.script`). Rows (``D``, ``d`` from the server)
may be written and are left out, as a scanner does.
"""

from dataclasses import dataclass, field

from dsqlproxy.errors import Peer
from dsqlproxy.session.tracker import Tracker
from tests.kit.frames import steps

_SILENT = b"Dd"


@dataclass
class Told:
    """A tracker that heard a conversation, and what it said meanwhile."""

    tracker: Tracker = field(default_factory=Tracker)
    dropped: str = ""
    effects: str = ""

    def hear(self, script: str) -> None:
        for sender, letters in steps(script):
            symbols = letters.encode()
            if sender is Peer.CLIENT:
                self.dropped += self.tracker.note_sent(symbols).decode()
            else:
                heard = symbols.translate(None, _SILENT)
                self.effects += self.tracker.note_received(heard).decode()


def tell(script: str) -> Told:
    """Tell a new tracker of a conversation; give it and what it said."""
    told = Told()
    told.hear(script)
    return told


def follow(script: str) -> Tracker:
    """Give a tracker that has heard of a conversation."""
    return tell(script).tracker
