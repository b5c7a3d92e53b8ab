from dsqlproxy.dsql import ACCEPTED_PARAMETERS
from dsqlproxy.probe.trials import TRIALS


def test_every_accepted_setting_is_tried() -> None:
    assert set(TRIALS) == ACCEPTED_PARAMETERS


def test_values_need_no_quoting() -> None:
    assert not [value for value in TRIALS.values() if "'" in value or "\\" in value]
