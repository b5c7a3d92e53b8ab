import pytest
from hypothesis import given, strategies as st

from dsqlproxy.endpoint import ACCEPTED_FORMS, Endpoint, parse_endpoint

ID = "4iabtxwqgmtxqz4ymbuovovmyy"
HOST = f"{ID}.dsql.us-east-1.on.aws"
ARN = f"arn:aws:dsql:us-east-1:123456789012:cluster/{ID}"


@pytest.mark.parametrize(
    ("cluster", "region"),
    [
        pytest.param(HOST, None, id="an endpoint"),
        pytest.param(HOST, "us-east-1", id="an endpoint and its region"),
        pytest.param(ARN, None, id="an ARN"),
        pytest.param(ARN, "us-east-1", id="an ARN and its region"),
        pytest.param(ID, "us-east-1", id="a bare id with region"),
    ],
)
def test_every_form_of_a_cluster_leads_to_its_endpoint(
    cluster: str, region: str | None
) -> None:
    assert parse_endpoint(cluster, region) == Endpoint(
        host=HOST, region="us-east-1", cluster_id=ID
    )


@pytest.mark.parametrize("service", ["dsql-fnh4", "dsql-fips"])
def test_a_privatelink_name_stays_as_it_is(service: str) -> None:
    host = f"{ID}.{service}.eu-west-3.on.aws"
    assert parse_endpoint(host, None) == Endpoint(host, "eu-west-3", ID)


@pytest.mark.parametrize(
    "region", ["us-gov-west-1", "ap-southeast-4", "eusc-de-east-1", "us-isob-east-1"]
)
def test_regions_of_every_shape_are_read(region: str) -> None:
    assert parse_endpoint(f"{ID}.dsql.{region}.on.aws", None).region == region


@pytest.mark.parametrize(
    ("cluster", "complaint"),
    [
        pytest.param("", "is empty", id="empty"),
        pytest.param("x", "has 1 character, not 26", id="one character"),
        pytest.param(f" {HOST}", "white space", id="space before"),
        pytest.param(f"{HOST}\n", "white space", id="line feed after"),
        pytest.param(f"https://{HOST}", "URL", id="scheme"),
        pytest.param(f"{HOST}/", "slash", id="slash after"),
        pytest.param(f"{HOST}:5432", "port", id="port"),
        pytest.param(f"{HOST}:", "port", id="colon after"),
        pytest.param(f"{HOST}.", "dot", id="trailing dot"),
        pytest.param(HOST.upper(), ".on.aws", id="upper case host"),
        pytest.param(ID.upper() + HOST[26:], "upper case", id="upper case id"),
        pytest.param(f"{ID}.dsql.us-east-1.amazonaws.com", "on.aws", id="amazonaws"),
        pytest.param("dsql.us-east-1.api.aws", "on.aws", id="control plane"),
        pytest.param(f"a.{HOST}", "does not look like", id="a label too many"),
        pytest.param(HOST.replace("dsql", "rds"), '"rds"', id="other service"),
        pytest.param(HOST.replace("dsql", "dsql-"), '"dsql-"', id="empty suffix"),
        pytest.param(HOST.replace("us-east-1", "useast1"), "region", id="bad region"),
        pytest.param(HOST[1:], "25 characters", id="short id in a host"),
        pytest.param(f"{ID}a", "27 characters", id="long id"),
        pytest.param(ID[:-1] + "-", "a-z and 0-9", id="dash in an id"),
        pytest.param(ID[:-1] + "é", "a-z and 0-9", id="accent in an id"),
        pytest.param(ID, "needs region", id="bare id without region"),
        pytest.param(ARN.upper(), "arn:aws:dsql:", id="upper case ARN"),
        pytest.param("arn:aws:dsql:us-east-1", "4 parts", id="cut ARN"),
        pytest.param(ARN.replace(":aws:", ":aws-cn:"), "arn:aws:", id="partition"),
        pytest.param(ARN.replace("dsql", "rds"), "arn:aws:dsql:", id="ARN of RDS"),
        pytest.param(ARN.replace("us-east-1", ""), "region", id="ARN without region"),
        pytest.param(ARN.replace("123456789012", "1"), "account", id="bad account"),
        pytest.param(ARN.replace("cluster/", "stream/"), "stream", id="other resource"),
        pytest.param(ARN[:-1], "25 characters", id="short id in an ARN"),
    ],
)
def test_a_malformed_cluster_is_refused_with_the_accepted_forms(
    cluster: str, complaint: str
) -> None:
    with pytest.raises(ValueError, match=r"accepted: ") as refusal:
        parse_endpoint(cluster, None)
    assert complaint in str(refusal.value)
    assert ACCEPTED_FORMS in str(refusal.value)


@pytest.mark.parametrize("cluster", [HOST, ARN])
def test_a_region_that_contradicts_the_cluster_is_refused(cluster: str) -> None:
    with pytest.raises(ValueError, match=r'is in us-east-1, but region is "eu-west-1"'):
        parse_endpoint(cluster, "eu-west-1")


@pytest.mark.parametrize("region", ["us east 1", "", "US-EAST-1", "us-east", "mars"])
def test_what_cannot_be_a_region_is_refused(region: str) -> None:
    with pytest.raises(ValueError, match="not the name of an AWS region"):
        parse_endpoint(HOST, region)


@given(st.text(), st.none() | st.text())
def test_noise_is_refused_in_words_and_never_otherwise(
    cluster: str, region: str | None
) -> None:
    with pytest.raises(ValueError, match="accepted: "):
        parse_endpoint(cluster, region)


@given(
    st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=26, max_size=26),
    st.sampled_from(["us-east-1", "ap-northeast-3", "sa-east-1"]),
)
def test_the_host_of_an_id_reads_back_as_the_same_endpoint(
    cluster_id: str, region: str
) -> None:
    endpoint = parse_endpoint(cluster_id, region)
    assert parse_endpoint(endpoint.host, None) == endpoint
