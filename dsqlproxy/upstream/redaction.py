"""Keeps a token out of what the peer says about it. No I/O.

Errors and notices of a login go to the log and to the client. A peer that repeats
the token in one would put an administrator's password there.
"""

import re
from dataclasses import replace
from urllib.parse import quote, unquote

from dsqlproxy.errors import UpstreamRejected
from dsqlproxy.pgproto.messages import NoticeResponse
from dsqlproxy.upstream.login import LoggedIn

_PLACEHOLDER = "<token>"
_SECRET_PARAMETERS = {"x-amz-signature", "x-amz-security-token"}


class Redaction:
    """Replaces one token, and the secrets in it, wherever they are repeated."""

    def __init__(self, token: str) -> None:
        secrets = _secrets_of(token)
        # The longest first: the whole token rather than a part of it.
        longest_first = sorted(secrets, key=len, reverse=True)
        # Who quotes anew may write %2f for %2F.
        pattern = "|".join(map(re.escape, longest_first))
        self._pattern = re.compile(pattern, re.IGNORECASE)
        self._is_empty = not secrets

    def of_rejection(self, error: UpstreamRejected) -> UpstreamRejected:
        """Give the same refusal without the token."""
        return UpstreamRejected(
            self._of_text(error.message),
            fields=self._of_fields(error.fields),
            detail=self._of_text(error.detail),
            hint=self._of_text(error.hint),
        )

    def of_logged_in(self, logged_in: LoggedIn) -> LoggedIn:
        """Give the same greeting without the token in its notices and settings."""
        notices = tuple(
            NoticeResponse(self._of_fields(notice.fields))
            for notice in logged_in.notices
        )
        parameters = tuple(
            replace(each, value=self._of_text(each.value))
            for each in logged_in.parameters
        )
        return replace(logged_in, notices=notices, parameters=parameters)

    def _of_fields(
        self, fields: tuple[tuple[str, str], ...]
    ) -> tuple[tuple[str, str], ...]:
        return tuple((code, self._of_text(value)) for code, value in fields)

    def _of_text(self, text: str) -> str:
        return text if self._is_empty else self._pattern.sub(_PLACEHOLDER, text)


def _secrets_of(token: str) -> set[str]:
    """Find what must not be repeated: as it is in the URL, unquoted, quoted again."""
    quoted = {token}
    for parameter in token.partition("?")[2].split("&"):
        name, _, value = parameter.partition("=")
        if name.lower() in _SECRET_PARAMETERS:
            quoted.add(value)
    spellings = {
        spelling
        for text in quoted
        for spelling in (text, unquote(text), quote(text, safe=""))
    }
    return spellings - {""}
