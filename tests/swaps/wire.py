"""What of all that passed was the client's, and what was between proxy and server.

A private conversation is known by the name of its statements, and by its end: a unit
that does nothing but close that name. What a new upstream is told before a client's
first frame are two such (`Replica.baseline`, then `early` and `completion`); what is
asked of one in use is one.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from dsqlproxy.pgproto.framing import Frame, FrameReader
from tests.kit.tamper import Seen
from tests.kit.tamper_plans import Way

_PRIVATE = b"Sdsqlproxy_"
_TOLD = frozenset("NSA")
"""What a server says of itself also in the middle of a private conversation."""

_MAX_BYTES = 1 << 30


@dataclass
class _Line:
    """One connection: who is speaking."""

    ends_left: int
    """So many private conversations are still to end before the client speaks."""
    unit: str = ""
    is_private: bool = False
    is_used: bool = False
    owed: int = 0
    """So many ReadyForQuery are still to come that answer private questions."""

    def sent(self, frame: Frame) -> bool:
        """Say whether a frame to the server is the client's own."""
        kind = chr(frame.type)
        closes = kind == "C" and frame.body.startswith(_PRIVATE)
        if closes and not self.ends_left:
            self.is_private, self.ends_left = True, 1
        if not self.ends_left:
            self.is_used = True
            return True
        self.unit += "c" if closes else kind
        if kind == "S":
            self.owed += 1
            self.ends_left -= self.unit == "cS"
            self.unit = ""
        return False

    def came(self, frame: Frame) -> bool:
        """Say whether a frame from the server is for the client."""
        if not self.ends_left and not self.owed:
            return True
        self.owed -= chr(frame.type) == "Z"
        return self.is_used and chr(frame.type) in _TOLD


@dataclass
class Passed:
    """What passed between one client and the servers, the proxy's own words apart."""

    to_server: list[Frame] = field(default_factory=list)
    to_client: list[Frame] = field(default_factory=list)
    connections: list[int] = field(default_factory=list)
    """Over which connection each frame to the server went."""


def passed(seen: Iterable[Seen]) -> Passed:
    """Sort what passed over the connections of one session, one after the other."""
    lines: dict[int, _Line] = {}
    found = Passed()
    for one in seen:
        line = lines.get(one.connection)
        if line is None:
            line = lines[one.connection] = _Line(ends_left=2 if lines else 0)
            line.is_used = len(lines) == 1
        if one.kind == "X":
            continue  # each upstream gets one, the client's or the proxy's
        if one.way is Way.TO_SERVER:
            if line.sent(one.frame):
                found.to_server.append(one.frame)
                found.connections.append(one.connection)
        elif line.came(one.frame):
            found.to_client.append(one.frame)
    return found


def check_wire(seen: Iterable[Seen], said: bytes, heard: list[Frame]) -> None:
    """Fail unless each frame of either side passed once, in order, as it was.

    What a ParameterStatus says after a swap is the proxy's to decide.
    """
    found = passed(seen)
    frames = FrameReader(max_bytes=_MAX_BYTES).feed(said)
    own = [frame for frame in frames if chr(frame.type) != "X"]
    assert found.to_server == own, "the servers got other frames than the client sent"
    assert found.connections == sorted(found.connections), (
        "an upstream that was replaced got a frame of the client"
    )
    to_client = [frame for frame in found.to_client if chr(frame.type) != "S"]
    assert to_client == [frame for frame in heard if chr(frame.type) != "S"], (
        "the client got other frames than the servers sent it"
    )
