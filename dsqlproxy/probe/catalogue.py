"""All questions in the order in which they are asked, and those that are not."""

from typing import Final

from dsqlproxy.probe.question import Question
from dsqlproxy.probe.questions.endings import LONG_QUESTIONS
from dsqlproxy.probe.questions.login import LOGIN_QUESTIONS
from dsqlproxy.probe.questions.protocol import PROTOCOL_QUESTIONS
from dsqlproxy.probe.questions.settings import SETTINGS_QUESTIONS
from dsqlproxy.probe.questions.statements import STATEMENT_QUESTIONS
from dsqlproxy.probe.report import LeftOut

QUESTIONS: Final[tuple[Question, ...]] = (
    *LOGIN_QUESTIONS,
    *SETTINGS_QUESTIONS,
    *PROTOCOL_QUESTIONS,
    *STATEMENT_QUESTIONS,
)
LONG: Final[tuple[Question, ...]] = LONG_QUESTIONS
"""Asked all at once, after the others."""

_NEEDS_DDL: Final = (
    "it would take a table to create and to alter, and any DDL makes other sessions "
    "of the cluster fail with OC001"
)
LEFT_OUT: Final = (
    LeftOut(
        "Is COMMIT done before its CommandComplete is sent?",
        "no client can see it: whatever it asks comes after both",
    ),
    LeftOut(
        "What does Describe say of a statement whose table was altered, and does Parse "
        "meet OC001?",
        _NEEDS_DDL,
    ),
    LeftOut(
        "What is said to a client that names no cluster at all (no SNI)?",
        "without a name the certificate could not be verified against it",
    ),
    LeftOut(
        "Does a session end when its role is revoked?",
        "it would take the permission away from somebody",
    ),
    LeftOut(
        "What is said when the cluster wakes up, is full or gets too many logins?",
        "it cannot be brought about without harm",
    ),
)
LEFT_OUT_WHEN_SHORT: Final = LeftOut(
    "When and how do sessions end, idle, busy and in a transaction?",
    "it takes 61 minutes: --probe-long asks it",
)
