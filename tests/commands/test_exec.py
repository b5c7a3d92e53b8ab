"""How `dsqlproxy exec` reads its arguments, and what surrounds its command."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from dsqlproxy.app import Bound, Started
from dsqlproxy.cli import main
from dsqlproxy.commands import exec as module
from dsqlproxy.commands.exec import command_of, environ_for, listener_for, settings
from dsqlproxy.config import Config, ListenerConfig, TcpAddress
from dsqlproxy.drain import Shutdown
from dsqlproxy.errors import ConfigError, DsqlProxyError, UpstreamUnavailable
from dsqlproxy.ops.log import configure_logging
from tests.commands.kit import parse

CLUSTER = "abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws"
ADDRESS = TcpAddress("127.0.0.1", 40_000)

# -- arguments -----------------------------------------------------------------------

WORDS = st.one_of(
    st.sampled_from(["--", "-", "-c", "--help", "--config", "--role=x", "-1", "a b"]),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
)
FLAGS = st.lists(
    st.sampled_from(
        [
            ("--config", "proxy.yaml"),
            ("--cluster", CLUSTER),
            ("--role=reader",),
            ("--listener", "psql"),
            ("--log-level", "debug"),
            ("--event-loop", "asyncio"),
        ]
    )
)


@given(FLAGS, st.lists(WORDS, min_size=1).filter(lambda words: words[0]))
def test_a_command_after_two_dashes_arrives_as_it_was_given(
    flags: list[tuple[str, ...]], command: list[str]
) -> None:
    given_flags = [word for flag in flags for word in flag]
    args = parse(module, *given_flags, "--", *command)
    assert list(command_of(args.command)) == command
    assert args.role == ("reader" if ("--role=reader",) in flags else None)
    assert args.config == (Path("proxy.yaml") if "proxy.yaml" in given_flags else None)


@given(FLAGS, st.lists(WORDS))
def test_a_command_may_begin_without_them(
    flags: list[tuple[str, ...]], rest: list[str]
) -> None:
    args = parse(module, *(word for flag in flags for word in flag), "psql", *rest)
    assert list(command_of(args.command)) == ["psql", *rest]


@pytest.mark.parametrize("words", [[], ["--"], ["--", ""], ["", "x"]])
def test_no_command_is_bad_usage(words: list[str]) -> None:
    with pytest.raises(ConfigError, match="no command is given"):
        command_of(words)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--cluster", CLUSTER], "no command is given"),
        (["--cluster", CLUSTER, "--"], "no command is given"),
        (["--", "true"], "no cluster is given"),
        (["--config", "--", "true"], "--config"),
        (["--rol", "x", "--", "true"], "--rol"),
        (["--cluster", CLUSTER, "--role", "", "--", "true"], "--role: is empty"),
        (["--cluster", CLUSTER, "--listener", "x", "--", "true"], "--listener"),
        (["--cluster", CLUSTER, "--log-level", "loud", "--", "true"], "--log-level"),
        (["--cluster", CLUSTER, "--admin-listen", "x", "--", "true"], "--admin-listen"),
    ],
    ids=" ".join,
)
def test_bad_usage_is_code_2(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    complaint: str,
) -> None:
    monkeypatch.delenv("DSQLPROXY_CONFIG", raising=False)
    assert main(["exec", *words]) == 2
    printed = capsys.readouterr()
    assert complaint in printed.err
    assert printed.out == ""


def test_the_manual_fits_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main(["exec", "--help"])
    manual = capsys.readouterr().out
    assert manual.startswith("usage: dsqlproxy exec [flags] -- COMMAND")
    assert max(map(len, manual.splitlines())) <= 80
    assert manual.isascii()


# -- the configuration ---------------------------------------------------------------


def test_a_proxy_of_ones_own_is_quiet_and_ends_soon() -> None:
    environ = {"DSQLPROXY_ADMIN_LISTEN": "127.0.0.1:9090", "DSQLPROXY_LOG_LEVEL": ""}
    seen = settings({**environ, "DSQLPROXY_DRAIN_TIMEOUT": "25s", "HOME": "/root"})
    assert seen == {
        "HOME": "/root",
        "DSQLPROXY_ADMIN_LISTEN": "off",
        "DSQLPROXY_LOG_LEVEL": "warning",
        "DSQLPROXY_LOG_FORMAT": "text",
        "DSQLPROXY_DRAIN_DELAY": "0s",
        "DSQLPROXY_DRAIN_TIMEOUT": "1s",
    }
    assert settings({"DSQLPROXY_LOG_LEVEL": "info"})["DSQLPROXY_LOG_LEVEL"] == "info"


def a_listener(**keys: Any) -> ListenerConfig:
    config = Config.model_validate({"listeners": [{"cluster": CLUSTER, **keys}]})
    return config.listeners[0]


def test_the_listener_is_on_a_free_port_and_plain() -> None:
    given_one = a_listener(listen="unix:/run/x", client_tls="auto", token_lifetime="9s")
    own = listener_for(given_one, role=None)
    assert own.listen == TcpAddress("127.0.0.1", 0)
    assert own.client_tls == "off"
    assert (own.token_lifetime, own.cluster) == (9, CLUSTER)


@pytest.mark.parametrize(
    ("keys", "role", "expected"),
    [
        ({"role": "reader"}, None, ("reader", None)),
        ({"role": "reader"}, "admin", ("admin", None)),
        ({"roles": ["a", "b"]}, None, (None, ("a", "b"))),
        ({"roles": ["a", "b"]}, "admin", ("admin", None)),
        ({}, None, (None, None)),
    ],
)
def test_a_role_that_is_given_is_that_of_every_session(
    keys: dict[str, Any], role: str | None, expected: tuple[object, object]
) -> None:
    own = listener_for(a_listener(**keys), role=role)
    assert (own.role, own.roles) == expected


# -- the environment -----------------------------------------------------------------

NAMES = st.one_of(
    st.sampled_from(sorted(module._CLEARED)),
    st.sampled_from(["PGSSLMODE", "PGSSL", "PGPASSWORD", "AWS_PROFILE", "PATH"]),
    st.sampled_from(["PGHOST", "PGUSER", "PGDATABASE", "PGOPTIONS", "DSQLPROXY_X"]),
)


@given(st.dictionaries(NAMES, st.text()))
def test_what_leads_elsewhere_is_gone_and_all_else_is_left(
    environ: dict[str, str],
) -> None:
    found = environ_for(ADDRESS, user="admin", database="postgres", environ=environ)
    ours = {
        "PGHOST": "127.0.0.1",
        "PGPORT": "40000",
        "PGUSER": "admin",
        "PGDATABASE": "postgres",
    }
    gone = {name for name in environ if name.startswith("PGSSL")} | module._CLEARED
    assert found == {
        **{name: value for name, value in environ.items() if name not in gone},
        **ours,
    }


@pytest.mark.parametrize(
    ("database", "environ", "expected"),
    [
        ("postgres", {"PGDATABASE": "mine"}, "postgres"),
        ("other", {}, "other"),
        ("client", {"PGDATABASE": "mine"}, "mine"),
        ("client", {}, "postgres"),
    ],
)
def test_the_database_is_the_clusters_unless_clients_may_choose(
    database: str, environ: dict[str, str], expected: str
) -> None:
    found = environ_for(ADDRESS, user="a", database=database, environ=environ)
    assert found["PGDATABASE"] == expected


# -- a proxy that fails --------------------------------------------------------------


class FailingProxy:
    """A proxy that fails, before or after it has begun to listen."""

    failure: Exception
    listens: bool

    def __init__(self, *_: object, **__: object) -> None:
        pass

    async def run(
        self, shutdown: Shutdown, *, on_started: Callable[[Started], None]
    ) -> None:
        if self.listens:
            on_started(Started((Bound("main", ADDRESS),), None))
            assert not shutdown.begun.is_set()
        raise self.failure


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> type[FailingProxy]:
    monkeypatch.setattr("dsqlproxy.app.Proxy", FailingProxy)
    for name in ("leave_standard_input", "raise_file_limit"):
        monkeypatch.setattr(module, name, lambda: None)  # they are of this process
    return FailingProxy


async def run_beside_it(*words: str) -> tuple[int, str]:
    """Run a command beside that proxy; give its code and the log."""
    config = Config.model_validate({"listeners": [{"cluster": CLUSTER}]})
    stream = io.StringIO()
    with configure_logging(log_format="text", stream=stream) as log:
        code = await module._serve(
            words, config, log, environ_at=lambda address: {"PGPORT": str(address.port)}
        )
    return code, stream.getvalue()


PATIENT = "import os, sys; sys.exit(7 if os.environ['PGPORT'] == '40000' else 8)"


async def test_a_command_outlives_a_proxy_that_fails(
    failing: type[FailingProxy],
) -> None:
    failing.listens = True
    command = (sys.executable, "-c", PATIENT)
    failing.failure = UpstreamUnavailable("the network is gone")
    code, log = await run_beside_it(*command)
    assert code == 7
    assert "ERROR" in log
    assert "the proxy has failed, the command goes on" in log
    assert "the network is gone" in log
    assert "Traceback" not in log
    failing.failure = ValueError("a bug")
    code, log = await run_beside_it(*command)
    assert (code, "Traceback" in log) == (7, True)


async def test_a_proxy_that_fails_before_is_the_end(
    failing: type[FailingProxy],
) -> None:
    failing.listens = False
    failing.failure = DsqlProxyError("the address is taken")
    with pytest.raises(DsqlProxyError, match="the address is taken"):
        await run_beside_it("true")


class EndedProxy(FailingProxy):
    """A proxy that a signal ends when it has just begun to listen."""

    async def run(
        self, shutdown: Shutdown, *, on_started: Callable[[Started], None]
    ) -> None:
        shutdown.request("SIGTERM")
        on_started(Started((Bound("main", ADDRESS),), None))


@pytest.mark.usefixtures("failing")
async def test_a_signal_before_the_command_keeps_it_from_beginning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("dsqlproxy.app.Proxy", EndedProxy)
    code, _ = await run_beside_it("touch", str(tmp_path / "begun"))
    assert code == 128
    assert not (tmp_path / "begun").exists()
