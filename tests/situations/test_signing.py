from dsqlproxy.situations.credentials import CredentialOrigin
from dsqlproxy.situations.signing import (
    lifetime_out_of_range,
    not_signed,
    request_incomplete,
)


def test_waiting_mends_none_of_these() -> None:
    told = (
        lifetime_out_of_range(0),
        request_incomplete(),
        not_signed(KeyError("s3cret"), CredentialOrigin("dev")),
    )
    assert not any(error.may_pass for error in told)
    assert "s3cret" not in str(told[-1])


def test_a_lifetime_out_of_range_names_the_key() -> None:
    told = lifetime_out_of_range(604_801)
    assert "604801 s" in told.detail
    assert "`token_lifetime`" in told.hint


def test_a_failure_to_sign_names_the_source_and_the_kind() -> None:
    told = not_signed(KeyError("s3cret"), CredentialOrigin("dev"))
    assert "AWS profile 'dev'" in told.detail
    assert "KeyError" in told.detail
