"""Stand-ins for the endpoints of AWS from which credentials come, on loopback::

    with aws_stand_ins() as aws:
        home = Home(tmp_path)
        home.sso_profile("dev")
        home.sign_in(aws.sso.sign_in())
        environment = aws.environment(home, AWS_PROFILE="dev")  # for a child process
        aws.mint.on_key = emulator.trust  # its tokens open sessions at the cluster
        aws.sso.get_role_credentials.hang()
        …
        await aws.sso.get_role_credentials.wait_for_calls(1)

What each source needs in its environment beyond ``environment``: nothing for
profiles (keys, roles, SSO, web identity, ``credential_process``), ``imds=True`` for
an instance, ``**aws.container.ecs()`` or ``.eks(…)`` for a container,
``**aws.web_identity(…)`` for a service account without a profile.
"""

from tests.kit.aws_stand_ins.home import Home
from tests.kit.aws_stand_ins.mint import Mint, TemporaryCredentials, role_arn
from tests.kit.aws_stand_ins.operations import Denied, Operation, Reply, Request
from tests.kit.aws_stand_ins.stand_ins import (
    StandIns,
    aws_stand_ins,
    use_in_this_process,
)

__all__ = [
    "Denied",
    "Home",
    "Mint",
    "Operation",
    "Reply",
    "Request",
    "StandIns",
    "TemporaryCredentials",
    "aws_stand_ins",
    "role_arn",
    "use_in_this_process",
]
