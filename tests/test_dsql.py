import pytest

from dsqlproxy import dsql


@pytest.mark.parametrize(
    ("role", "action"),
    [
        ("admin", "DbConnectAdmin"),
        ("reader", "DbConnect"),
        ("Admin", "DbConnect"),
        ("", "DbConnect"),
    ],
)
def test_only_admin_connects_with_the_action_of_admin(role: str, action: str) -> None:
    assert dsql.action_for(role) == action


def test_the_accepted_parameters_are_folded_as_postgresql_folds_them() -> None:
    assert {name.lower() for name in dsql.ACCEPTED_PARAMETERS} == set(
        dsql.ACCEPTED_PARAMETERS
    )
    assert len(dsql.ACCEPTED_PARAMETERS) == 17


def test_role_is_never_part_of_a_startup_packet() -> None:
    assert dsql.ACCEPTED_PARAMETERS.isdisjoint(dsql.TRANSACTION_ONLY_PARAMETERS)
