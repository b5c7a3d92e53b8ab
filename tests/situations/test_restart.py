import pytest

from dsqlproxy.situations.restart import (
    AFTERWARDS,
    AND_RESTART,
    THEN_RESTART,
    for_a_command,
)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"Log in. {AFTERWARDS}", "Log in."),
        (f"Correct it{AND_RESTART}; or not. {AFTERWARDS}", "Correct it; or not."),
        (f"Set both{THEN_RESTART}.", "Set both."),
        ("Log in.", "Log in."),
        ("", ""),
    ],
)
def test_a_command_has_nothing_to_restart(text: str, left: str) -> None:
    assert for_a_command(text) == left
