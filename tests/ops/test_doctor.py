import json
from itertools import count

import pytest

from dsqlproxy.ops.doctor import (
    WIDTH,
    Chart,
    Checkup,
    Finding,
    Outcome,
    Step,
    as_json,
    as_lines,
)
from dsqlproxy.situations.remedies import Remedy, Trouble
from tests.kit.frames import FakeClock

CLUSTER = f"{'a' * 26}.dsql.us-east-1.on.aws"
TROUBLE = Trouble(
    "could not connect",
    code="08001",
    detail="127.0.0.1:1: Connection refused",
    hint="Let TCP out.",
)


def checkup(chart: Chart, name: str = "main") -> Checkup:
    return Checkup(name, CLUSTER, chart.findings, client="psql -h x")


def text(chart: Chart, *, width: int = WIDTH) -> str:
    return "\n".join(as_lines(checkup(chart), width=width))


def line_of(chart: Chart, step: Step) -> str:
    (line,) = (
        each
        for each in text(chart).splitlines()
        if each.startswith(f"  {step.heading} ")
    )
    return line


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def chart(clock: FakeClock) -> Chart:
    return Chart(clock)


# -- the chart -------------------------------------------------------------------------


def test_what_was_never_begun_is_skipped(chart: Chart) -> None:
    assert [each.step for each in chart.findings] == list(Step)
    assert {each.outcome for each in chart.findings} == {Outcome.SKIPPED}
    assert chart.outcome(Step.DNS) is Outcome.SKIPPED


def test_what_was_begun_and_never_decided_is_skipped(chart: Chart) -> None:
    chart.begin(Step.TOKEN)
    chart.pause(Step.TOKEN)
    found = dict(zip(Step, chart.findings, strict=True))[Step.TOKEN]
    assert (found.outcome, found.seconds) == (Outcome.SKIPPED, None)


def test_a_step_has_the_time_until_it_was_decided(
    chart: Chart, clock: FakeClock
) -> None:
    chart.begin(Step.DNS)
    clock.now += 0.25
    chart.passed(Step.DNS, "1.2.3.4")
    clock.now += 5
    assert chart.findings[1] == Finding(Step.DNS, Outcome.OK, 0.25, "1.2.3.4")


def test_steps_overlap(chart: Chart, clock: FakeClock) -> None:
    chart.begin(Step.CREDENTIALS)
    clock.now += 1
    chart.begin(Step.CLOCK)
    clock.now += 2
    chart.passed(Step.CREDENTIALS)
    clock.now += 4
    chart.passed(Step.CLOCK)
    seconds = {each.step: each.seconds for each in chart.findings}
    assert (seconds[Step.CREDENTIALS], seconds[Step.CLOCK]) == (3, 6)


def test_the_times_of_a_step_that_is_begun_again_add_up(
    chart: Chart, clock: FakeClock
) -> None:
    for _ in range(2):
        chart.begin(Step.TLS)
        chart.begin(Step.TLS)  # no matter
        clock.now += 1
        chart.pause(Step.TLS)
        clock.now += 10
    chart.failed(Step.TLS, TROUBLE)
    assert chart.findings[3].seconds == 2
    assert chart.findings[3].trouble is TROUBLE


def test_what_tells_nothing_is_skipped_with_its_reason(
    chart: Chart, clock: FakeClock
) -> None:
    chart.begin(Step.CLOCK)
    clock.now += 2
    chart.skipped(Step.CLOCK, "nobody answered")
    expected = Finding(Step.CLOCK, Outcome.SKIPPED, 2, "nobody answered")
    assert expected in chart.findings
    assert checkup(chart).ok


def test_what_was_found_elsewhere_is_taken_over(chart: Chart) -> None:
    finding = Finding(Step.CONFIGURATION, Outcome.OK, 0.002, "proxy.yaml")
    chart.record(finding)
    assert chart.findings[0] is finding


def test_only_a_failure_makes_it_not_ok(chart: Chart) -> None:
    chart.warned(Step.CLOCK, TROUBLE)
    assert checkup(chart).ok
    chart.failed(Step.TCP, TROUBLE)
    assert not checkup(chart).ok


# -- text ------------------------------------------------------------------------------


def test_each_step_has_one_line_with_its_time(chart: Chart, clock: FakeClock) -> None:
    chart.begin(Step.DNS)
    clock.now += 0.0121
    chart.passed(Step.DNS, "52.1.2.3 and 5 more")
    chart.begin(Step.TCP)
    clock.now += 1.24
    chart.passed(Step.TCP, "52.1.2.3:5432")
    shown = [" ".join(line_of(chart, step).split()) for step in Step]
    assert "DNS ok 12 ms 52.1.2.3 and 5 more" in shown
    assert "TCP ok 1.2 s 52.1.2.3:5432" in shown
    assert "SELECT 1 skipped -" in shown


def test_details_stand_in_one_column(chart: Chart) -> None:
    for step in Step:
        chart.passed(step, "DETAIL")
    assert len({line_of(chart, step).index("DETAIL") for step in Step}) == 1


def test_the_end_says_how_to_connect(chart: Chart) -> None:
    chart.passed(Step.LOGIN)
    assert text(chart).splitlines()[-1].strip() == "ready: psql -h x"


def test_a_failure_is_explained_and_nothing_is_ready(chart: Chart) -> None:
    chart.failed(Step.TCP, TROUBLE)
    shown = text(chart)
    assert line_of(chart, Step.TCP).split()[:2] == ["TCP", "failed"]
    for part in (TROUBLE.message, TROUBLE.code, TROUBLE.detail, TROUBLE.hint):
        assert part in shown
    assert shown.splitlines()[-1].strip() == "not ready: TCP failed"


def test_several_failures_are_all_named(chart: Chart) -> None:
    chart.failed(Step.CREDENTIALS, TROUBLE)
    chart.failed(Step.DNS, TROUBLE)
    assert "not ready: DNS and credentials failed" in text(chart)


def test_what_has_no_code_and_no_hint_is_told_without(chart: Chart) -> None:
    chart.warned(Step.CLOCK, Trouble("it is late"))
    assert "SQLSTATE" not in text(chart)
    assert "  clock: it is late\n\n" in text(chart)


def test_a_remedy_is_printed_to_be_copied(chart: Chart) -> None:
    statement = '{\n  "Resource": "' + "x" * 120 + '"\n}'
    trouble = Trouble("no", remedy=Remedy("To paste:", statement))
    chart.failed(Step.LOGIN, trouble)
    shown = text(chart)
    assert "    To paste:\n" in shown
    for line in statement.splitlines():
        assert f"      {line}\n" in shown


def test_the_first_line_reads_like_no_port(chart: Chart) -> None:
    lines = as_lines(checkup(chart, name="127.0.0.1:5432"))
    assert next(iter(lines)) == f"listener 127.0.0.1:5432 -> {CLUSTER}"


@pytest.mark.parametrize("width", [60, 80, WIDTH])
def test_long_texts_are_wrapped(chart: Chart, width: int) -> None:
    words = " ".join(f"word{number}" for number in range(60))
    chart.failed(Step.LOGIN, Trouble(words, detail=words, hint=words))
    chart.passed(Step.TLS, words)
    _, *lines = text(chart, width=width).splitlines()
    assert width - len("word10 ") < max(map(len, lines)) <= width


def test_in_a_narrow_terminal_a_detail_goes_on_below(chart: Chart) -> None:
    chart.passed(Step.TLS, "a certificate with many words to say")
    shown = text(chart, width=44)
    assert "\n    certificate with many words to say\n" in shown
    assert text(chart, width=1).count("\n    words\n") == 1


def test_what_cannot_be_broken_is_longer(chart: Chart) -> None:
    arn = "arn:aws:iam::123456789012:role/" + "x" * 60
    chart.failed(Step.LOGIN, Trouble("no", detail=f"refused to {arn}, it says"))
    assert f"\n    {arn},\n" in text(chart, width=60)


def test_a_peer_cannot_write_to_the_terminal(chart: Chart) -> None:
    chart.failed(
        Step.LOGIN, Trouble("\x1b[2Jgone\nready: psql", hint="cr\u00e8me \u2026")
    )
    shown = text(chart)
    assert shown.isascii()
    assert "\x1b" not in shown
    assert "\nready" not in shown
    assert "..." in shown


# -- JSON ------------------------------------------------------------------------------


def test_json_has_every_step_of_every_listener(chart: Chart) -> None:
    clocks = count(0.0, 0.5)
    bad = Chart(lambda: next(clocks))
    bad.begin(Step.DNS)
    bad.passed(Step.DNS, "1.2.3.4")
    bad.failed(Step.TCP, TROUBLE)
    shown = json.loads(as_json([checkup(chart), checkup(bad, name="other")]))
    assert shown["ok"] is False
    first, second = shown["listeners"]
    assert list(first) == ["name", "cluster", "ok", "client", "steps"]
    assert (first["name"], first["ok"]) == ("main", True)
    assert (second["name"], second["ok"]) == ("other", False)
    assert second["cluster"] == CLUSTER
    assert second["client"] == "psql -h x"
    assert [each["step"] for each in second["steps"]] == [str(step) for step in Step]
    assert second["steps"][1] == {
        "step": "dns",
        "outcome": "ok",
        "seconds": 0.5,
        "detail": "1.2.3.4",
    }
    assert second["steps"][2] == {
        "step": "tcp",
        "outcome": "failed",
        "seconds": 0,
        "detail": TROUBLE.message,
        "error": {
            "code": "08001",
            "message": TROUBLE.message,
            "detail": TROUBLE.detail,
            "hint": TROUBLE.hint,
        },
    }
    assert second["steps"][3]["seconds"] is None


def test_json_can_hold_more_beside_the_listeners(chart: Chart) -> None:
    shown = json.loads(as_json([checkup(chart)], probe={"answers": []}))
    assert list(shown) == ["ok", "listeners", "probe"]


def test_json_carries_the_remedy_as_it_is_to_be_pasted(chart: Chart) -> None:
    chart.failed(Step.LOGIN, Trouble("no", remedy=Remedy("To paste:", "a\nb")))
    (listener,) = json.loads(as_json([checkup(chart)]))["listeners"]
    assert listener["steps"][7]["error"]["remedy"] == "a\nb"
