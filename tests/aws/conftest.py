from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kit.aws_stand_ins import Home, StandIns, aws_stand_ins, use_in_this_process

Enter = Callable[..., None]
"""The fixture `enter`: make the stand-ins this process's AWS, with some variables."""


@pytest.fixture
def aws() -> Iterator[StandIns]:
    with aws_stand_ins() as stand_ins:
        yield stand_ins


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def enter(aws: StandIns, home: Home, monkeypatch: pytest.MonkeyPatch) -> Enter:
    def make(*, imds: bool = False, **variables: str) -> None:
        environment = aws.environment(home, imds=imds, **variables)
        use_in_this_process(monkeypatch, environment)

    make()
    return make
