"""From what a user writes for a cluster to its endpoint and region.

AWS documentation: a cluster has an id of 26 lower-case letters and digits, a public
endpoint ``<id>.dsql.<region>.on.aws`` and, through PrivateLink with private DNS,
``<id>.dsql-<suffix>.<region>.on.aws``. The suffix form also covers
``<id>.dsql-fips.<region>.on.aws``, which only third-party software names so far.

Everything else is refused with what is wrong with it: a token signed for a host that
does not exist fails only at the cluster, as a bare "access denied".
"""

import json
import re
from dataclasses import dataclass
from typing import Final

ACCEPTED_FORMS: Final = (
    "<26 characters>.dsql.<region>.on.aws, "
    "arn:aws:dsql:<region>:<account>:cluster/<26 characters>, "
    "or the 26 characters alone together with region"
)

_CLUSTER_ID: Final = re.compile(r"[a-z0-9]{26}")
_SERVICE_LABEL: Final = re.compile(r"dsql(?:-[a-z0-9]+)?")
_ACCOUNT: Final = re.compile(r"[0-9]{12}")
# us-east-1, us-gov-west-1, ap-southeast-4, eusc-de-east-1: two to five letters, one
# to three words, a number. Which of them exist is for AWS to know: regions are added.
_REGION: Final = re.compile(r"[a-z]{2,5}(?:-[a-z]{2,12}){1,3}-[0-9]{1,2}")
_PORT_SUFFIX: Final = re.compile(r":[0-9]*\Z")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a cluster is: its name in DNS, SNI and token, and its region."""

    host: str
    region: str
    cluster_id: str


def parse_endpoint(cluster: str, region: str | None) -> Endpoint:
    """Read an endpoint, an ARN, or an id with its region.

    Raises ValueError with what is wrong and the accepted forms.
    """
    if region is not None:
        check_region(region)
    _refuse_ornaments(cluster)
    if cluster.lower().startswith("arn:"):
        endpoint = _parse_arn(cluster)
    elif "." in cluster:
        endpoint = _parse_host(cluster)
    else:
        endpoint = _parse_id(cluster, region)
    if region is not None and region != endpoint.region:
        raise ValueError(
            f'"{cluster}" is in {endpoint.region}, but region is "{region}"; '
            "leave region out, or give the region of the cluster"
        )
    return endpoint


def check_region(region: str) -> None:
    """Raise ValueError if ``region`` cannot be the name of an AWS region."""
    if not _REGION.fullmatch(region):
        raise ValueError(
            f"{_quoted(region)} is not the name of an AWS region; "
            "accepted: names like us-east-1"
        )


def _quoted(text: str) -> str:
    """Show ``text`` on one line, quotes and what a terminal would obey escaped."""
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _refused(cluster: str, complaint: str) -> ValueError:
    return ValueError(f"{_quoted(cluster)} {complaint}; accepted: {ACCEPTED_FORMS}")


def _refuse_ornaments(cluster: str) -> None:
    """Refuse what people paste along with a name, each with its own words."""
    if not cluster:
        raise _refused(cluster, "is empty")
    if any(char.isspace() for char in cluster):
        raise _refused(cluster, "contains white space")
    if "://" in cluster:
        raise _refused(cluster, "is a URL; leave out the scheme")
    if cluster.lower().startswith("arn:"):
        return
    if "/" in cluster:
        raise _refused(cluster, "contains a slash; give the host name alone")
    if _PORT_SUFFIX.search(cluster):
        raise _refused(cluster, "ends in a port; a cluster always listens on 5432")
    if cluster.endswith("."):
        raise _refused(cluster, "ends in a dot")


def _parse_host(host: str) -> Endpoint:
    labels = host.split(".")
    if host.lower().endswith((".amazonaws.com", ".api.aws")):
        raise _refused(host, "is not a cluster's endpoint, which ends in .on.aws")
    if len(labels) != 5 or labels[3:] != ["on", "aws"]:
        raise _refused(host, "does not look like <id>.dsql.<region>.on.aws")
    cluster_id, service, region = labels[:3]
    _check_id(host, cluster_id)
    if not _SERVICE_LABEL.fullmatch(service):
        raise _refused(host, f'has "{service}" where dsql is expected')
    if not _REGION.fullmatch(region):
        raise _refused(host, f'has "{region}" where a region is expected')
    return Endpoint(host=host, region=region, cluster_id=cluster_id)


def _parse_arn(arn: str) -> Endpoint:
    parts = arn.split(":")
    if len(parts) != 6:
        raise _refused(arn, f"has {len(parts)} parts between colons, an ARN has 6")
    prefix, partition, service, region, account, resource = parts
    if [prefix, partition, service] != ["arn", "aws", "dsql"]:
        raise _refused(arn, "does not begin with arn:aws:dsql:")
    if not _REGION.fullmatch(region):
        raise _refused(arn, f'has "{region}" where a region is expected')
    if not _ACCOUNT.fullmatch(account):
        raise _refused(
            arn, f'has "{account}" where an account of 12 digits is expected'
        )
    kind, _, cluster_id = resource.partition("/")
    if kind != "cluster":
        raise _refused(arn, f'names "{resource}", not cluster/<26 characters>')
    _check_id(arn, cluster_id)
    return _public_endpoint(cluster_id, region)


def _parse_id(cluster: str, region: str | None) -> Endpoint:
    _check_id(cluster, cluster)
    if region is None:
        raise _refused(cluster, "is a cluster id, which needs region as well")
    return _public_endpoint(cluster, region)


def _public_endpoint(cluster_id: str, region: str) -> Endpoint:
    host = f"{cluster_id}.dsql.{region}.on.aws"
    return Endpoint(host=host, region=region, cluster_id=cluster_id)


def _check_id(cluster: str, cluster_id: str) -> None:
    if _CLUSTER_ID.fullmatch(cluster_id):
        return
    is_bare = cluster == cluster_id
    subject = "" if is_bare else f'has the cluster id "{cluster_id}", which '
    if _CLUSTER_ID.fullmatch(cluster_id.lower()):
        raise _refused(cluster, f"{subject}contains upper case")
    if len(cluster_id) != 26:
        count = len(cluster_id)
        noun = "character" if count == 1 else "characters"
        raise _refused(cluster, f"{subject}has {count} {noun}, not 26")
    raise _refused(cluster, f"{subject}contains other than a-z and 0-9")
