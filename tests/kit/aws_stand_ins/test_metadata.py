import json

import pytest

from tests.kit.aws_stand_ins import StandIns
from tests.kit.aws_stand_ins.fetching import Fetch, ask


def test_an_instance_without_a_role(aws: StandIns, fetch: Fetch) -> None:
    aws.imds.role_name = ""
    with pytest.raises(AssertionError, match="no credentials"):
        fetch(imds=True)
    assert aws.imds.role.calls == 1


def test_imds_refuses_requests_without_its_token(aws: StandIns, fetch: Fetch) -> None:
    aws.imds.token.deny()
    with pytest.raises(AssertionError, match="no credentials"):
        fetch(imds=True)
    assert (aws.imds.role.calls, aws.imds.credentials.calls) == (1, 0)


def test_imds_tells_the_region(aws: StandIns) -> None:
    aws.imds.allows_version_1 = True
    path = "/latest/meta-data/placement/availability-zone/"
    assert ask(aws, path) == (200, "us-east-1a")


@pytest.mark.parametrize(
    "path", ["/latest/meta-data/iam/security-credentials/other", "/nothing"]
)
def test_what_is_not_there(aws: StandIns, path: str) -> None:
    aws.imds.allows_version_1 = True
    assert ask(aws, path)[0] == 404


def test_imds_gives_its_token_to_who_says_for_how_long(aws: StandIns) -> None:
    assert ask(aws, "/latest/api/token", method="PUT")[0] == 400


# Not through botocore, which would sleep a second after each of three attempts.
@pytest.mark.parametrize(("token", "status"), [("a-token", 403), ("another", 401)])
def test_a_container_is_denied(aws: StandIns, token: str, status: int) -> None:
    aws.container.authorization = "a-token"
    if status == 403:
        aws.container.credentials.deny()
    url = aws.container.ecs()["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
    path = url.removeprefix(aws.url)
    answer = ask(aws, path, headers={"Authorization": token})
    assert answer[0] == status
    assert json.loads(answer[1])["code"] == "AccessDeniedException"
