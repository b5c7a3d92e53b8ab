import pytest

from dsqlproxy.pgproto.codes import (
    AuthenticationCode,
    BackendType,
    FrontendType,
    TransactionStatus,
)


def letters(kinds: type[FrontendType] | type[BackendType]) -> str:
    return "".join(sorted(chr(kind) for kind in kinds))


# PostgreSQL manual, "Message Formats": every message with a type byte that a peer
# may send after the startup packet, replication apart.
def test_frontend_types_are_those_of_the_manual() -> None:
    assert letters(FrontendType) == "".join(sorted("BCdcfDEHFPpQSX"))


def test_backend_types_are_those_of_the_manual() -> None:
    assert letters(BackendType) == "".join(sorted("RK23CWdcGHDIEVvnNAtS1sZT"))


@pytest.mark.parametrize("letter", "CDES")
def test_one_letter_means_two_things(letter: str) -> None:
    sent, answered = FrontendType(ord(letter)), BackendType(ord(letter))
    assert sent.name != answered.name


def test_codes_are_plain_numbers() -> None:
    assert b"Q"[0] == FrontendType.QUERY
    assert bytes((BackendType.READY_FOR_QUERY,)) == b"Z"
    assert [chr(status) for status in TransactionStatus] == ["I", "T", "E"]
    assert (AuthenticationCode.CLEARTEXT_PASSWORD, AuthenticationCode.SASL) == (3, 10)
