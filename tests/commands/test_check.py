"""The command itself; what it finds where is in tests/end_to_end/test_check.py."""

import io
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dsqlproxy.aws.tokens import TokenSource
from dsqlproxy.cli import main
from dsqlproxy.commands import check
from dsqlproxy.config import ListenerConfig
from dsqlproxy.ops.doctor import Checkup
from dsqlproxy.probe import Answered, ProbeReport
from dsqlproxy.probe.report import Answer
from dsqlproxy.upstream.connector import Target, UpstreamStartup
from tests.kit.configs import CLUSTER

NOBODY = "127.0.0.1:1"


@pytest.fixture(autouse=True)
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the process credentials, and an STS that nobody is."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "DSQLPROXY_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://{NOBODY}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("DSQLPROXY_LISTENER_CONNECT_ADDRESS", NOBODY)


Said = Callable[[], str]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    def output() -> str:
        printed = capsys.readouterr()
        assert printed.err == ""
        return printed.out

    return output


def test_it_needs_no_file(said: Said) -> None:
    assert main(["check", "--cluster", CLUSTER]) == 1
    output = said()
    assert "flags and environment" in output
    assert "not ready: TCP failed" in output


def test_json_is_printed_alone(said: Said) -> None:
    assert main(["check", "--cluster", CLUSTER, "--json"]) == 1
    told = json.loads(said())
    assert told["listeners"][0]["cluster"] == CLUSTER
    assert "probe" not in told


def test_a_slip_of_the_pen_in_a_variable_is_a_warning(
    said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSQLPROXY_LISTENER_ROLLE", "reader")
    monkeypatch.setenv("DSQLPROXY_PROFILE", "dev")
    monkeypatch.setenv("DSQLPROXY_WORKERS", "2")
    main(["check", "--cluster", CLUSTER])
    configuration, *_ = (line for line in said().splitlines() if line[:3] == "  c")
    assert configuration.split()[:2] == ["configuration", "warning"]
    assert configuration.endswith("flags and environment")
    main(["check", "--cluster", CLUSTER, "--json"])
    (listener,) = json.loads(said())["listeners"]
    step = listener["steps"][0]
    assert (step["step"], step["outcome"]) == ("configuration", "warning")
    assert step["error"]["message"].endswith("did you mean DSQLPROXY_LISTENER_ROLE?")
    assert step["error"]["detail"] == (
        "DSQLPROXY_PROFILE is not a setting and is left alone;"
        " did you mean DSQLPROXY_LISTENER_PROFILE?"
        " DSQLPROXY_WORKERS is not a setting and is left alone."
    )


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("columns", "width"), [("72", 72), ("100", 100), ("250", 100), ("0", 80)]
)
def test_the_text_fits_the_terminal(
    monkeypatch: pytest.MonkeyPatch, columns: str, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    # A terminal that does not know its size says 0.
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((0, 0)))
    assert check.text_width(Terminal()) == width
    assert check.text_width(io.StringIO()) == 100


def test_the_manual_shows_json_as_it_is(said: Said) -> None:
    main(["check", "--cluster", CLUSTER, "--json"])
    (listener,) = json.loads(said())["listeners"]
    shown = check.HELP.partition('"listeners"')[2]
    places = [shown.index(f'"{key}"') for key in listener]
    assert places == sorted(places)


def test_the_role_may_be_given(said: Said) -> None:
    main(["check", "--cluster", CLUSTER, "--role", "reader", "--json"])
    (listener,) = json.loads(said())["listeners"]
    assert "-U reader" in listener["client"]


@pytest.mark.parametrize("flag", ["--probe", "--probe-long"])
def test_nothing_is_probed_where_no_client_gets_through(said: Said, flag: str) -> None:
    assert main(["check", "--cluster", CLUSTER, flag, "--json"]) == 1
    assert "probe" not in json.loads(said())


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("DSQLPROXY_LISTENER_CONNECT_ADDRESS")
    file = tmp_path / "proxy.yaml"
    lines = [
        f"  - {{name: {name}, cluster: {CLUSTER}, listen: '127.0.0.1:{port}',"
        f" connect_address: '{NOBODY}'}}"
        for name, port in (("one", 6001), ("two", 6002))
    ]
    file.write_text("\n".join(["listeners:", *lines]))
    return str(file)


def names(output: str) -> list[str]:
    return [each["name"] for each in json.loads(output)["listeners"]]


def test_all_listeners_are_examined_in_order(said: Said, two: str) -> None:
    assert main(["check", "--config", two, "--json"]) == 1
    assert names(said()) == ["one", "two"]


def test_one_listener_may_be_chosen(said: Said, two: str) -> None:
    assert main(["check", "--config", two, "--listener", "two", "--json"]) == 1
    assert names(said()) == ["two"]


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        pytest.param(["--listener", "no"], 'there is no "no"', id="unknown listener"),
        pytest.param(["--role", ""], "--role", id="empty role"),
        pytest.param(["--probe"], "is needed to choose", id="whom to probe"),
        pytest.param(["--listen", "a:1"], "--listen", id="a flag of other commands"),
    ],
)
def test_bad_usage_is_told_before_anything_is_dialled(
    capsys: pytest.CaptureFixture[str], two: str, flags: list[str], complaint: str
) -> None:
    assert main(["check", "--config", two, *flags]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert complaint in printed.err


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Let every name take until the event is set."""
    answers = threading.Event()

    def hangs(*_: object, **__: object) -> Any:
        answers.wait(20)
        raise socket.gaierror(socket.EAI_AGAIN, "at last")

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", hangs)
        yield answers
        answers.set()


# The event loop would wait for its own thread that resolves names, and a resolver
# may take half a minute for each.
def test_a_resolver_that_hangs_is_not_waited_for(
    said: Said, resolver: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSQLPROXY_LISTENER_CONNECT_ADDRESS", "cluster.invalid:5432")
    monkeypatch.setenv("DSQLPROXY_LISTENER_CONNECT_TIMEOUT", "100ms")
    assert main(["check", "--cluster", CLUSTER]) == 1
    assert not resolver.is_set()
    output = said()
    assert "not ready: DNS failed" in output
    assert "while resolving the host name" in output


def test_help_is_a_short_manual(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["check", "--help"])
    shown = capsys.readouterr().out
    assert '"outcome": "failed"' in shown
    assert max(map(len, check.HELP.splitlines())) <= 80


# -- the probe -------------------------------------------------------------------------


@dataclass
class Probe:
    """Stands for `run_probe`, whose questions have tests of their own."""

    asked: list[tuple[str, str, bool]]

    async def __call__(
        self,
        target: Target,
        tokens: TokenSource,
        startup: UpstreamStartup,
        *,
        is_long: bool,
        on_answer: Callable[[Answered], None],
        **_: object,
    ) -> ProbeReport:
        self.asked.append((target.host, startup.role, is_long))
        assert (await tokens.current()).access_key_id == "AKIDEXAMPLE"
        answered = Answered("a_key", "a question?", "why", 0.1, Answer("yes"))
        on_answer(answered)
        return ProbeReport("x", 0.0, "r", "admin", is_long, 1.0, (answered,), ())


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Probe:
    """Let every listener be well, and give what a probe was asked."""

    async def all_well(listener: ListenerConfig, **_: object) -> Checkup:
        return Checkup(listener.name, listener.endpoint.host, (), "psql")

    fake = Probe([])
    monkeypatch.setattr("dsqlproxy.commands.diagnosis.examine", all_well)
    monkeypatch.setattr("dsqlproxy.probe.run_probe", fake)
    return fake


def test_a_probe_follows_a_check_that_passed(
    capsys: pytest.CaptureFixture[str], probe: Probe
) -> None:
    assert main(["check", "--cluster", CLUSTER, "--probe"]) == 0
    printed = capsys.readouterr()
    assert printed.out.index("ready: psql") < printed.out.index("a question?")
    assert printed.err == "dsqlproxy: asked a_key\n"
    assert probe.asked == [(CLUSTER, "admin", False)]


def test_the_report_of_a_probe_is_a_key_of_the_object(
    capsys: pytest.CaptureFixture[str], probe: Probe
) -> None:
    words = ["check", "--cluster", CLUSTER, "--probe-long", "--role", "r", "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is True
    assert told["probe"]["answers"][0]["answer"] == "yes"
    assert probe.asked == [(CLUSTER, "r", True)]
