"""botocore's names of the sources of credentials, in words."""

from typing import Final

from dsqlproxy.situations.restart import AND_RESTART

FILES: Final = {
    "shared-credentials-file": "~/.aws/credentials",
    "config-file": "~/.aws/config",
}

ON_EC2: Final = (
    "attach an instance profile, and in a container there set the instance's "
    "HttpPutResponseHopLimit to 2"
)

_CONTAINER: Final = (
    "the container's credentials endpoint (AWS_CONTAINER_CREDENTIALS_…_URI)",
    "On ECS check that the task has a role, on EKS the Pod Identity agent and its "
    f"association; where there is neither, unset the variable{AND_RESTART}.",
)
_INSTANCE: Final = ("instance metadata", f"On EC2 {ON_EC2}.")

PROVIDERS: Final = {
    "container-role": _CONTAINER,
    "EcsContainer": _CONTAINER,
    "iam-role": _INSTANCE,
    "Ec2InstanceMetadata": _INSTANCE,
    "custom-process": ("credential_process", ""),
}
"""In words, and what mends each where that is known."""
