"""Looking for secrets in all that a program has said and left behind.

A secret need not be seen whole to be known, and not as it is to be read: it is cut
into overlapping pieces, as it stands and as a URL writes it, and any piece counts.
"""

from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, quote

PIECE: Final = 20
"""Characters of a piece: whoever has fewer of forty has nothing, and no text that is
no secret has as many by chance."""

_STEP: Final = PIECE // 2


class Forbidden:
    """What must not be seen, and under which name to report it if it is."""

    def __init__(self) -> None:
        self._pieces: dict[bytes, set[str]] = {}

    def add(self, name: str, text: str) -> None:
        """Forbid a text and all its parts."""
        assert len(text) >= PIECE, f"too short to be told from chance: {name}"
        for form in (text, quote(text, safe="")):
            last = len(form) - PIECE
            for start in (*range(0, last, _STEP), last):
                piece = form[start : start + PIECE].encode()
                self._pieces.setdefault(piece, set()).add(name)

    def add_token(self, name: str, token: str) -> None:
        """Forbid what is secret in a token; host, time and role are no secret."""
        fields = parse_qs(token.partition("?")[2], strict_parsing=True)
        (signature,) = fields["X-Amz-Signature"]
        assert len(signature) == 64
        self.add(f"signature of {name}", signature)
        for session_token in fields.get("X-Amz-Security-Token", []):
            self.add(f"session token of {name}", session_token)

    def found_in(self, data: bytes | str) -> set[str]:
        """Name what is seen in some bytes or text."""
        if isinstance(data, str):
            data = data.encode(errors="surrogateescape")
        pieces = self._pieces
        # By what is there rather than by what is sought: the time does not depend on
        # how many tokens there were.
        starts = range(len(data) - PIECE + 1)
        seen = (data[start : start + PIECE] for start in starts)
        return set().union(*(pieces[piece] for piece in seen if piece in pieces))


def files_below(directory: Path) -> dict[Path, bytes]:
    """Give every file of a directory tree that can be read."""
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
