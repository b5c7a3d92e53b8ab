import json

import pytest

from dsqlproxy.cli import main


def test_the_schema_is_json_on_standard_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["schema"]) == 0
    printed = capsys.readouterr()
    schema = json.loads(printed.out)
    assert set(schema["properties"]) >= {"listeners", "admin", "log", "drain_timeout"}
    assert printed.err == ""
