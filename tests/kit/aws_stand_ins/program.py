"""The program of ``credential_process``: it asks the stand-ins what to print.

So it is told what to do, and counted, as every other source is. It begins fast,
without site packages, for it may be run many times.
"""

import json
import sys
from pathlib import Path
from typing import Final

from tests.kit.aws_stand_ins.mint import Mint, role_arn
from tests.kit.aws_stand_ins.operations import (
    Answers,
    Denied,
    Operation,
    Reply,
    Request,
)
from tests.kit.aws_stand_ins.service import Answer, credentials_of

_PATH: Final = "/credential-process"

_SOURCE: Final = """\
import socket, sys

with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
    connection.sendall(b"GET {path} HTTP/1.0\\r\\n\\r\\n")
    with connection.makefile("rb") as stream:
        answer = stream.read()
head, _, body = answer.partition(b"\\r\\n\\r\\n")
code = 255
for line in head.split(b"\\r\\n"):
    name, _, value = line.partition(b": ")
    if name == b"Exit-Code":
        code = int(value)
(sys.stderr if code else sys.stdout).buffer.write(body)
sys.exit(code)
"""


class CredentialProcess:
    """What the program prints, and with which exit code it ends."""

    def __init__(self, mint: Mint) -> None:
        self._mint = mint
        self.port = 0
        """Where the program asks; the stand-ins set it."""
        self.role_name = "process-role"
        self.run = Operation("run", denial=Denied("1", "vault: you are not signed in"))

    def write(self, directory: Path) -> str:
        """Write the program; give the command, for ``credential_process``."""
        file = directory / "credentials.py"
        file.write_text(_SOURCE.replace("{path}", _PATH))
        return f"{sys.executable} -I -S {file} {self.port}"

    def print(self, output: str) -> None:
        """Print this from now on, and end well."""
        self.run.reply(Reply(200, output.encode(), {"Exit-Code": "0"}))

    def exit(self, code: int, errors: str) -> None:
        """End with an exit code from now on, and say this to the standard error."""
        self.run.deny(str(code), errors)

    # -- for the server ------------------------------------------------------------

    @property
    def operations(self) -> tuple[Operation, ...]:
        return (self.run,)

    def find(self, request: Request) -> tuple[Operation, Answer] | None:
        return (self.run, self._run) if request.path == _PATH else None

    def tell(self, denied: Denied) -> Reply:
        return Reply(denied.status, denied.message.encode(), {"Exit-Code": denied.code})

    def _run(self, request: Request, answers: Answers) -> Reply:
        del request
        made = credentials_of(answers, self._mint, role_arn(self.role_name))
        body = {
            "Version": 1,
            "AccessKeyId": made.access_key_id,
            "SecretAccessKey": made.key.secret_access_key,
            "SessionToken": made.session_token,
            "Expiration": made.expiration,
        }
        return Reply(200, json.dumps(body).encode(), {"Exit-Code": "0"})
