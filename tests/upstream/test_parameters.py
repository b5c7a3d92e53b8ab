import pytest
from hypothesis import given, strategies as st

from dsqlproxy.dsql import ACCEPTED_PARAMETERS
from dsqlproxy.upstream.parameters import (
    UnsupportedPolicy,
    UpstreamParameters,
    join_options,
    split_options,
    upstream_parameters,
)

BASE = (("user", "admin"), ("database", "postgres"))
LETTERS = st.characters(codec="utf-8", exclude_characters="\0")
WORDS = st.lists(st.text(LETTERS, min_size=1))


def of(
    *parameters: tuple[str, str],
    database: str = "postgres",
    startup_options: str = "",
    unsupported: UnsupportedPolicy = "drop",
) -> UpstreamParameters:
    return upstream_parameters(
        parameters,
        role="admin",
        database=database,
        startup_options=startup_options,
        unsupported=unsupported,
    )


def options_of(parameters: UpstreamParameters) -> str | None:
    return dict(parameters.parameters).get("options")


def test_role_goes_as_user_and_the_one_database_as_database() -> None:
    assert of(("user", "me"), ("database", "mine")) == (BASE, ())


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ([("user", "me"), ("database", "mine")], "mine"),
        # PostgreSQL: no database means the one named like the user.
        ([("user", "me")], "me"),
        ([], "admin"),
    ],
)
def test_database_client_passes_the_clients_on(
    asked: list[tuple[str, str]], expected: str
) -> None:
    parameters = of(*asked, database="client").parameters
    assert parameters == (("user", "admin"), ("database", expected))


@pytest.mark.parametrize(
    "name", [*sorted(ACCEPTED_PARAMETERS), "DateStyle", "TimeZone"]
)
def test_accepted_parameters_pass_in_the_clients_spelling(name: str) -> None:
    assert of((name, "'utf-8'")) == ((*BASE, (name, "'utf-8'")), ())


@pytest.mark.parametrize(
    "name", ["client_min_messages", "statement_timeout", "role", "USER", "x.y"]
)
def test_unsupported_parameters_are_left_out_and_named(name: str) -> None:
    assert of((name, "1"), ("timezone", "UTC")) == (
        (*BASE, ("timezone", "UTC")),
        (name,),
    )


def test_pass_leaves_everything_as_it_is() -> None:
    asked = (
        ("statement_timeout", "1"),
        ("replication", "database"),
        ("application_name", "x"),
    )
    options = r"  -c a\ b=1 nonsense \ "
    parameters = of(("user", "me"), *asked, ("options", options), unsupported="pass")
    assert parameters == ((*BASE, ("options", options), *asked), ())


def test_a_name_asked_for_twice_is_named_once() -> None:
    parameters = of(("x", "1"), ("x", "2"), ("options", "-c x=3 -c y=4"))
    assert parameters.dropped == ("x", "y")


@pytest.mark.parametrize("policy", ["drop", "pass"])
def test_protocol_options_stay_between_client_and_proxy(
    policy: UnsupportedPolicy,
) -> None:
    parameters = of(("_pq_.command_progress", "1"), unsupported=policy)
    assert parameters == (BASE, ())


@pytest.mark.parametrize("value", ["true", "database", "on", "1", "nonsense"])
def test_replication_is_refused_by_name(value: str) -> None:
    assert of(("replication", value)) == (BASE, ("replication",))


@pytest.mark.parametrize("value", ["false", "off", "no", "0", "F"])
def test_replication_switched_off_is_nothing(value: str) -> None:
    assert of(("replication", value)) == (BASE, ())


@pytest.mark.parametrize(
    ("options", "kept", "dropped"),
    [
        ("", None, ()),
        ("   ", None, ()),
        ("-c search_path=a", "-c search_path=a", ()),
        ("-csearch_path=a", "-csearch_path=a", ()),
        ("--search-path=a", "--search-path=a", ()),
        ("--Search_Path=a", "--Search_Path=a", ()),
        ("-c geqo=off", None, ("geqo",)),
        ("-cgeqo=off", None, ("geqo",)),
        ("--geqo=off", None, ("geqo",)),
        ("--statement-timeout=5", None, ("statement_timeout",)),
        (
            r"-c geqo=off -c search_path=a\ b  --timezone=UTC --x=1",
            r"-c search_path=a\ b --timezone=UTC",
            ("geqo", "x"),
        ),
        # The value of a dropped one is not taken for a switch.
        ("-c geqo=-c -c timezone=UTC", "-c timezone=UTC", ("geqo",)),
        # Old one-letter switches set run-time parameters too.
        ("-F -d 5 -S1024", None, ("-F", "-d", "-S")),
        ("-Fc timezone=UTC", "-c timezone=UTC", ("-F",)),
        ("-Fctimezone=UTC -e", "-ctimezone=UTC", ("-F", "-e")),
        # What no server can read is for the server to refuse.
        ("search_path=a", "search_path=a", ()),
        ("-c geqo=off search_path=a", "search_path=a", ("geqo",)),
        ("-- -c geqo=off", "-- -c geqo=off", ()),
        ("- x", "- x", ()),
        ("-FZ -c geqo=off", "-Z -c geqo=off", ("-F",)),
        ("-c timezone", "-c timezone", ()),
        ("-c", "-c", ()),
    ],
)
def test_options_are_read_as_the_server_reads_them(
    options: str, kept: str | None, dropped: tuple[str, ...]
) -> None:
    parameters = of(("options", options))
    assert options_of(parameters) == kept
    assert parameters.dropped == dropped


def test_startup_options_come_first_and_are_never_dropped() -> None:
    ours = "-c  amzn-cluster-id=x"
    parameters = of(("options", "-c timezone=UTC -c geqo=off"), startup_options=ours)
    assert options_of(parameters) == "-c amzn-cluster-id=x -c timezone=UTC"
    assert options_of(of(startup_options=ours)) == "-c amzn-cluster-id=x"


def test_a_stray_backslash_in_startup_options_takes_nothing_of_the_clients() -> None:
    parameters = of(("options", "-c timezone=UTC"), startup_options="-c a=b\\")
    assert options_of(parameters) == "-c a=b -c timezone=UTC"


@given(WORDS)
def test_words_survive_joining_and_splitting(words: list[str]) -> None:
    assert split_options(join_options(words)) == words


@given(st.text(LETTERS))
def test_joining_what_was_split_changes_nothing(options: str) -> None:
    words = [word for word in split_options(options) if word]
    assert split_options(join_options(words)) == words


@given(st.text(st.sampled_from("-cdFZ= \\x,timezone"), max_size=40))
def test_any_options_can_be_read(options: str) -> None:
    parameters = of(("options", options))
    kept = options_of(parameters) or ""
    again = of(("options", kept))
    assert (options_of(again) or "") == kept
    assert again.dropped == ()


@given(st.lists(st.tuples(st.text(LETTERS, min_size=1), st.text(LETTERS))))
def test_nothing_but_accepted_names_goes_up(asked: list[tuple[str, str]]) -> None:
    names = {name.lower() for name, _ in of(*asked).parameters}
    assert names <= ACCEPTED_PARAMETERS | {"user", "database", "options"}
