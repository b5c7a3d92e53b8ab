import json

from hypothesis import given, strategies as st

from dsqlproxy.probe.report import Answer, Answered, Evidence, LeftOut, ProbeReport

ANSWER = Answered(
    key="cancel",
    question="Is a CancelRequest honoured?",
    matters="Clients cancel queries.",
    seconds=0.12345,
    answer=Answer(
        "honoured",
        {
            "types": "T E Z",
            "seconds": 0.004,
            "runs": True,
            "is silent": False,
            "key bytes": None,
            "tags": ["A", "B"],
            "none of them": [],
            "each": {"one": "ERROR 0A000", "two": "ok"},
        },
    ),
)
HOLE = Answered(
    key="resets",
    question="Which statements reset a session?",
    matters="Some end prepared statements.",
    seconds=3.0,
    could_not="no answer within 3 s",
)


def report(*answers: Answered) -> ProbeReport:
    return ProbeReport(
        program="dsqlproxy 0.1.0",
        asked_at=1_750_000_000.0,
        region="us-east-1",
        role="admin",
        is_long=False,
        seconds=12.34,
        answers=answers,
        left_out=(LeftOut("Is the moon full?", "it cannot be seen from here"),),
    )


def test_text_tells_answer_question_and_evidence() -> None:
    assert report(ANSWER, HOLE).as_text() == (
        "Probe of an Aurora DSQL cluster by dsqlproxy 0.1.0\n"
        "2025-06-15T15:06:40Z, Region us-east-1, role admin\n"
        "1 of 2 questions answered in 12.3 s\n"
        "\n"
        "cancel: honoured\n"
        "    Is a CancelRequest honoured?\n"
        "    types: T E Z\n"
        "    seconds: 0.004\n"
        "    runs: yes\n"
        "    is silent: no\n"
        "    key bytes: none\n"
        "    tags: A, B\n"
        "    none of them: none\n"
        "    each:\n"
        "        one: ERROR 0A000\n"
        "        two: ok\n"
        "\n"
        "resets: could not be asked: no answer within 3 s\n"
        "    Which statements reset a session?\n"
        "\n"
        "Not asked:\n"
        "- Is the moon full?: it cannot be seen from here\n"
        "\n"
        "Left out: tokens, keys, the cluster's name and addresses, ARNs and account"
        " numbers.\n"
        "Please read it all the same before you send it.\n"
    )


def test_values_are_those_that_json_knows() -> None:
    values = report(ANSWER, HOLE).as_dict()
    assert json.loads(json.dumps(values)) == values
    assert values["format"] == 1
    assert values["asked_at"] == "2025-06-15T15:06:40Z"
    first, second = values["answers"]
    assert (first["answer"], first["could_not_be_asked"]) == ("honoured", None)
    assert first["seconds"] == 0.123
    assert (second["answer"], second["evidence"]) == (None, {})
    assert second["could_not_be_asked"] == "no answer within 3 s"
    assert values["left_out"][0]["because"] == "it cannot be seen from here"


def test_an_answer_is_found_by_its_key() -> None:
    found = report(ANSWER, HOLE)
    assert found.answer_to("cancel") == ANSWER.answer
    assert found.answer_to("resets") is None
    assert found.answer_to("nothing") is None
    assert found.unanswered == 1


@given(
    st.dictionaries(
        st.text(),
        st.one_of(
            st.text(),
            st.integers(),
            st.booleans(),
            st.none(),
            st.lists(st.text()),
            st.dictionaries(st.text(), st.text()),
        ),
    )
)
def test_any_evidence_can_be_told(evidence: dict[str, Evidence]) -> None:
    one = Answered("key", "Why?", "", 0.0, Answer("because", evidence))
    assert "key: because\n" in report(one).as_text()
    json.dumps(report(one).as_dict())
