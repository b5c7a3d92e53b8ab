"""A text that cannot be shown by accident (no I/O)."""

import hmac
from typing import Never


class Secret:
    """A secret key, a session token, a signed token; only `reveal` gives its text.

    Printing, formatting and logging show a placeholder at any level. What would put
    the text into other bytes unseen (pickle, copy, JSON, ``dataclasses.asdict``)
    fails instead. Two are compared in constant time.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Give the text, for who signs with it or sends it to the cluster."""
        return self._text

    def __repr__(self) -> str:
        return "<secret>"

    def __format__(self, spec: str) -> str:
        # Without this, a width or a precision would be an error in a log call.
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> Never:
        # A pickle is a print by another name; so is a copy that is made by one.
        raise TypeError("a secret cannot be copied or pickled")
