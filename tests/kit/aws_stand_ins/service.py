"""What all services have in common: their operations, and how calls find them."""

from collections.abc import Callable
from typing import Protocol

from tests.kit.aws_stand_ins.mint import Mint, TemporaryCredentials
from tests.kit.aws_stand_ins.operations import (
    Answers,
    Denied,
    Operation,
    Reply,
    Request,
)

Answer = Callable[[Request, Answers], Reply]
"""How an operation answers when nothing is to go wrong; it may raise `Denied`."""


class Service(Protocol):
    """One endpoint of AWS."""

    @property
    def operations(self) -> tuple[Operation, ...]:
        """All that it can do."""

    def find(self, request: Request) -> tuple[Operation, Answer] | None:
        """Give the operation that a request asks for, if it is one of its own."""

    def tell(self, denied: Denied) -> Reply:
        """Put an error in the form of this service."""


def reply_to(request: Request, services: tuple[Service, ...]) -> Reply:
    """Answer one request; it may be held for long. `Closed` if it is to get nothing."""
    for service in services:
        found = service.find(request)
        if found is None:
            continue
        operation, answer = found
        outcome = operation.arrive(request)
        try:
            match outcome:
                case Answers():
                    return answer(request, outcome)
                case Denied():
                    return service.tell(outcome)
                case Reply():
                    return outcome
        except Denied as denied:
            return service.tell(denied)
    return Reply(404, b"no such operation", {"Content-Type": "text/plain"})


def credentials_of(
    answers: Answers, mint: Mint, principal_arn: str
) -> TemporaryCredentials:
    """Give the credentials that a call gets: the given ones, or fresh ones."""
    return answers.given or mint.mint(principal_arn, lifetime=answers.lifetime)
