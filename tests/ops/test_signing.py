"""What becomes of credentials and tokens is counted, and in the log."""

import io
import json
from collections.abc import Callable

from dsqlproxy.aws.credentials import Credentials
from dsqlproxy.aws.secret import Secret
from dsqlproxy.errors import TokenError
from dsqlproxy.ops.log import configure_logging
from dsqlproxy.ops.signing import CredentialLog

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"  # AWS documentation's example


def written(tell: Callable[[CredentialLog], None]) -> dict[str, object]:
    """Give the one line that the log has of what is told."""
    stream = io.StringIO()
    with configure_logging(level="info", stream=stream, name="dsqlproxy.test") as log:
        tell(CredentialLog(log))
    (line,) = stream.getvalue().splitlines()
    found: dict[str, object] = json.loads(line)
    return found


def test_changed_credentials_are_named_and_not_shown() -> None:
    keys = Credentials("AKIAIOSFODNN7EXAMPLE", Secret(SECRET), source="a test")
    line = written(lambda log: log.credentials_changed(keys, expires_in=59.6))
    assert (line["event"], line["access_key_id"]) == (
        "credentials changed",
        "AKIA…MPLE",
    )
    assert (line["source"], line["expires_in"]) == ("a test", 60)
    assert "role_arn" not in line
    assert SECRET not in str(line)


def test_what_is_known_of_a_role_is_told() -> None:
    keys = Credentials("ASIA", Secret(SECRET), role_arn="arn:aws:iam::1:role/x")
    line = written(lambda log: log.credentials_changed(keys, expires_in=None))
    assert line["role_arn"] == "arn:aws:iam::1:role/x"
    assert "expires_in" not in line


def test_trouble_is_a_warning_with_what_mends_it() -> None:
    trouble = TokenError("none", detail="Tried: x.", hint="y")
    line = written(lambda log: log.credentials_failed(trouble))
    assert (line["level"], line["event"]) == ("warning", "credentials failed")
    assert (line["message"], line["detail"], line["hint"]) == ("none", "Tried: x.", "y")


def test_a_watch_that_fails_is_told_without_foreign_text() -> None:
    line = written(lambda log: log.watch_failed(ValueError(SECRET)))
    assert (line["event"], line["error"]) == ("AWS files not watched", "ValueError")
    assert SECRET not in str(line)
