"""The key assume_role: an ARN, or a mapping that says more."""

import pytest
from pydantic import ValidationError

from dsqlproxy.config import AssumedRole, ListenerConfig
from dsqlproxy.errors import ConfigError
from tests.kit.configs import CLUSTER, paths

ARN = "arn:aws:iam::123456789012:role/path/to/reader"


def role(given: object) -> AssumedRole | None:
    return ListenerConfig(cluster=CLUSTER, assume_role=given).assume_role


def test_an_arn_alone_is_enough() -> None:
    assert role(ARN) == AssumedRole(role_arn=ARN)
    assert AssumedRole(role_arn=ARN).session_name == "dsqlproxy"
    assert role(None) is None


def test_a_mapping_says_more() -> None:
    mapping = {"role_arn": ARN, "session_name": "laptop", "external_id": "a/b:c"}
    found = role(mapping)
    assert found == AssumedRole(**mapping)
    assert role(found) == found


@pytest.mark.parametrize(
    "given",
    [
        "arn:aws:iam::123456789012:user/x",
        "arn:aws:iam::12345:role/x",
        "arn:aws:iam::123456789012:role/",
        "arn:aws:iam::123456789012:role/x\n",
        "reader",
        7,
        True,
        [ARN],
    ],
)
def test_nothing_else_is_a_role(given: object) -> None:
    with pytest.raises(ValidationError):
        role(given)


@pytest.mark.parametrize("given", [[ARN], [], 7, True])
def test_what_is_no_text_is_told_both_forms(given: object) -> None:
    with pytest.raises(ValidationError) as refusal:
        role(given)
    told = str(refusal.value)
    assert "is not a role; accepted: the ARN of a role, or a mapping of role_arn," in (
        told
    )


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov"])
def test_partitions_differ(partition: str) -> None:
    arn = f"arn:{partition}:iam::123456789012:role/x"
    found = role(arn)
    assert found is not None
    assert found.role_arn == arn


def test_problems_of_a_mapping_come_at_once_each_with_its_path() -> None:
    from dsqlproxy.config import load_config  # noqa: PLC0415

    with pytest.raises(ConfigError) as caught:
        load_config(
            None,
            flags={"--cluster": CLUSTER},
            environ={"DSQLPROXY_LISTENER_ASSUME_ROLE": "nobody"},
        )
    (problem,) = caught.value.problems
    assert problem.startswith('DSQLPROXY_LISTENER_ASSUME_ROLE: "nobody" is not')
    assert paths(caught.value.problems) == ["DSQLPROXY_LISTENER_ASSUME_ROLE"]
    mapping = {"role_arn": "x", "session_name": "!", "external_id": "", "sessions": 1}
    with pytest.raises(ValidationError) as refusal:
        role(mapping)
    assert {error["loc"][-1] for error in refusal.value.errors()} == set(mapping)
