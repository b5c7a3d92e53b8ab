from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.aws_stand_ins import Home, StandIns, aws_stand_ins
from tests.kit.aws_stand_ins.fetching import Fetch, new_fetch


@pytest.fixture
def aws() -> Iterator[StandIns]:
    with aws_stand_ins() as stand_ins:
        yield stand_ins


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def fetch(aws: StandIns, home: Home, monkeypatch: pytest.MonkeyPatch) -> Fetch:
    return new_fetch(aws, home, monkeypatch)
