"""What time AWS has: the ``Date`` of any answer over HTTPS. Everything here blocks."""

import ssl
import urllib.request
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Final
from urllib.error import HTTPError

_DATE_SECONDS: Final = 1.0
"""A ``Date`` leaves out fractions of a second (RFC 9110, 5.6.7)."""


class NoDate(Exception):
    """AWS's time cannot be learnt; the text says why, in words of ours."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """An answer that leads elsewhere has a date too."""

    def redirect_request(self, *_: object, **__: object) -> None:
        """Follow nothing."""


def sts_endpoint(region: str, environ: Mapping[str, str]) -> str:
    """Give the address of AWS's STS for a Region, or of what stands in for it."""
    return (
        environ.get("AWS_ENDPOINT_URL_STS")
        or environ.get("AWS_ENDPOINT_URL")
        or f"https://sts.{region}.amazonaws.com"
    )


def seconds_ahead(
    endpoint: str, *, wall: Callable[[], float], timeout_seconds: float
) -> float:
    """Say how far the wall clock is ahead of AWS's, to a second; negative if behind.

    Raises `NoDate`. Proxies are taken from the environment, as botocore does.
    """
    # The certificate is not verified: nothing is sent but a question, nothing but a
    # number comes of it, and a clock that is years off fails every verification.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    opener = urllib.request.build_opener(
        _NoRedirects, urllib.request.HTTPSHandler(context=context)
    )
    if not endpoint.startswith(("https://", "http://")):
        raise NoDate("its endpoint is not a URL")
    request = urllib.request.Request(endpoint)  # noqa: S310 - see above
    asked_at = wall()
    try:
        with opener.open(request, timeout=timeout_seconds) as answer:
            date = answer.headers.get("Date")
    except HTTPError as error:
        # Whoever says no says when.
        with error:
            date = error.headers.get("Date")
    except (OSError, ValueError, HTTPException):
        raise NoDate("it could not be reached") from None
    here = (asked_at + wall()) / 2
    return here - _date_of(date)


def _date_of(text: str | None) -> float:
    """Give the middle of the second that a ``Date`` names."""
    try:
        return parsedate_to_datetime(text or "").timestamp() + _DATE_SECONDS / 2
    except (ValueError, OverflowError):
        raise NoDate("its answer has no date") from None
