"""What a running proxy takes up by itself, and what it has to be restarted for."""

from typing import Final

AFTERWARDS: Final = "The proxy takes up what changes under ~/.aws without a restart."
"""The end of some hints. What stands in the proxy's own configuration, its flags or
its environment is not among it."""

AND_RESTART: Final = " and restart the proxy"
THEN_RESTART: Final = "; then restart the proxy"


def for_a_command(text: str) -> str:
    """Leave out what only a running proxy needs: a command reads everything anew."""
    for words in (AFTERWARDS, AND_RESTART, THEN_RESTART):
        text = text.replace(words, "")
    return text.rstrip()
