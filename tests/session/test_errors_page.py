"""The page of errors: its layout, and that it shows what a client would see."""

import pytest

from dsqlproxy.errors import ConfigError, ShuttingDown, UpstreamUnavailable
from dsqlproxy.session.errors_page import (
    CONNECTION_CLOSED,
    CONNECTION_FAILED,
    page,
    response,
    shown,
    sqlstate,
)
from dsqlproxy.situations.catalogue import SECTIONS
from dsqlproxy.situations.holding import Remark
from dsqlproxy.situations.situation import (
    NAME,
    LogEvent,
    Moment,
    Section,
    Situation,
    Waits,
)

NO_WAY = UpstreamUnavailable(f"no way to {NAME}", detail="A | B.", hint="Try `c`.")
FATAL = f"FATAL:  no way to {NAME}\nDETAIL:  A | B.\nHINT:  Try `c`.\n"


def situation(**values: object) -> Situation:
    given = {"key": "a-key", "title": "A title", "example": NO_WAY, "mends": "Time."}
    return Situation(**{**given, **values})  # type: ignore[arg-type] # a shorthand


def test_a_login_that_fails_is_shown_as_libpq_shows_it() -> None:
    assert shown(situation()) == CONNECTION_FAILED + FATAL
    assert sqlstate(situation()) == "08001"


def test_a_client_that_was_held_has_seen_a_notice_first() -> None:
    held = situation(remark=Remark("waits", hint="Wait."))
    notice = "NOTICE:  waits\nHINT:  Wait.\n"
    assert shown(held) == notice + CONNECTION_FAILED + FATAL


def test_a_session_that_ends_is_shown_with_what_psql_adds() -> None:
    ended = situation(example=ShuttingDown("bye"), moment=Moment.SESSION)
    assert shown(ended) == f"FATAL:  bye\n{CONNECTION_CLOSED}"


def test_a_statement_that_fails_is_an_error_of_a_session_that_goes_on() -> None:
    assert shown(situation(moment=Moment.STATEMENT)) == f"ERROR{FATAL[5:]}"


def test_a_warning_has_no_error() -> None:
    warned = situation(example=None, moment=Moment.WARNING, remark=Remark("less"))
    assert shown(warned) == "WARNING:  less\n"
    assert sqlstate(warned) == "01000"


def test_silence_is_shown_as_nothing() -> None:
    silent = situation(example=None, moment=Moment.SILENCE)
    assert (shown(silent), sqlstate(silent)) == ("", "")
    with pytest.raises(ValueError, match="a-key: the client is told nothing"):
        response(silent)


def test_what_libpq_says_by_itself_is_shown_where_the_proxy_is_silent() -> None:
    silent = situation(example=None, moment=Moment.SILENCE, psql="no TLS here")
    assert shown(silent) == f"{CONNECTION_FAILED}no TLS here\n"
    assert "psql says by itself:" in page([Section("A section", "", (silent,))])


def test_a_start_that_fails_shows_each_problem() -> None:
    failed = situation(example=ConfigError(["a: b", "c: d"]), moment=Moment.START)
    assert shown(failed) == "dsqlproxy: a: b\ndsqlproxy: c: d\n"
    assert sqlstate(failed) == ""


def test_an_entry_says_all_there_is_to_know() -> None:
    row = situation(waits=Waits.SIGNED_ANEW, log_event=LogEvent.LOGIN_FAILED)
    whole = page([Section("A section", "About it.", (row,))])
    assert "| `08001` | `no way to …` | [A title](#a-key) |" in whole
    assert '<a id="a-key"></a>\n\n### A title\n\n```text\n' in whole
    for fact in (
        "- **SQLSTATE** `08001`; the client gets no session. **In the log:**",
        "- **Does the proxy wait, or try again?** One new token is tried at once.",
        "- **What mends it:** Time.",
    ):
        assert fact in whole


def test_what_would_break_the_table_does_not() -> None:
    error = UpstreamUnavailable("a | b in `c`")
    whole = page([Section("A section", "About it.", (situation(example=error),))])
    assert "| `` a \\| b in `c` `` |" in whole


def test_the_page_has_every_situation_and_no_line_of_prose_is_too_long() -> None:
    whole = page()
    for section in SECTIONS:
        for row in section.situations:
            assert f'<a id="{row.key}"></a>' in whole
            assert shown(row) in whole
    prose = whole.split("```text\n")[0].splitlines()
    assert max(len(line) for line in prose if not line.startswith("|")) <= 88
