import pytest
from hypothesis import given, strategies as st

from dsqlproxy.emulator.options import take_cluster_id


@pytest.mark.parametrize(
    ("options", "cluster_id", "rest"),
    [
        ("", None, ""),
        ("-c amzn-cluster-id=abc", "abc", ""),
        ("-camzn-cluster-id=abc", "abc", ""),
        ("--amzn-cluster-id=abc", "abc", ""),
        ("-c geqo=off -c amzn-cluster-id=abc", "abc", "-c geqo=off"),
        ("-c amzn-cluster-id=abc --geqo=off", "abc", "--geqo=off"),
        (r"-c search_path=a\ b", None, r"-c search_path=a\ b"),
        (r"-c x=-c\ amzn-cluster-id=abc", None, r"-c x=-c\ amzn-cluster-id=abc"),
        ("-c", None, "-c"),
        ("-c amzn-cluster-id", None, "-c amzn-cluster-id"),
    ],
)
def test_the_cluster_id_is_taken_out(
    options: str, cluster_id: str | None, rest: str
) -> None:
    assert take_cluster_id(options) == (cluster_id, rest)


@given(options=st.text())
def test_options_without_the_id_stay_as_they_are(options: str) -> None:
    cluster_id, rest = take_cluster_id(options)
    if cluster_id is None:
        assert rest.split() == options.rstrip("\\").split() or "\\" in options
