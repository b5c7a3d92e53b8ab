import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from dsqlproxy import __version__, cli
from dsqlproxy.cli import COMMANDS, main
from dsqlproxy.commands import options
from dsqlproxy.config.overrides import FLAGS
from dsqlproxy.errors import ConfigError, DsqlProxyError, TokenError

CLUSTER = "abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws"


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - this interpreter, our own arguments
        [sys.executable, *arguments], capture_output=True, text=True, check=False
    )


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Sequence[str]]]:
    """Collect which command would run, instead of running it."""
    found: list[tuple[str, Sequence[str]]] = []

    def note(name: str, arguments: Sequence[str]) -> int:
        found.append((name, arguments))
        return 7

    monkeypatch.setattr(cli, "_run_command", note)
    return found


@pytest.mark.parametrize(
    ("argv", "call"),
    [
        (["run", "--config", "f"], ("run", ["--config", "f"])),
        (["--config", "f"], ("run", ["--config", "f"])),
        (["--cluster", "c", "--help"], ("run", ["--cluster", "c", "--help"])),
        ([], ("run", [])),
        (["token"], ("token", [])),
    ],
    ids=repr,
)
def test_without_a_command_the_proxy_is_run(
    calls: list[tuple[str, Sequence[str]]],
    argv: list[str],
    call: tuple[str, Sequence[str]],
) -> None:
    assert main(argv) == 7
    assert calls == [call]


def test_the_arguments_of_the_process_are_the_default(
    calls: list[tuple[str, Sequence[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["dsqlproxy", "status", "--json"])
    assert main() == 7
    assert calls == [("status", ["--json"])]


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dsqlproxy {__version__}\n"


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_the_manual_lists_every_command(
    capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    assert main([flag]) == 0
    manual = capsys.readouterr().out
    for name, text in COMMANDS.items():
        assert f"  {name}" in manual
        assert text in manual
    assert max(map(len, manual.splitlines())) <= 80
    assert manual.isascii()


@pytest.mark.parametrize("name", ["token", "schema"])
def test_each_command_has_a_manual(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as leaving:
        main([name, "--help"])
    assert leaving.value.code == 0
    manual = capsys.readouterr().out
    assert manual.startswith(f"usage: dsqlproxy {name} ")
    assert max(map(len, manual.splitlines())) <= 80
    assert manual.isascii()


def test_an_unknown_command_gets_a_suggestion(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["statsu"]) == 2
    error = capsys.readouterr().err
    assert error.startswith('dsqlproxy: there is no command "statsu"; accepted: run, ')
    assert error.endswith('; did you mean "status"?\n')
    assert main(["zzz"]) == 2
    assert "did you mean" not in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["--wat"], ["--clust", "x"], ["--role"], ["x"]])
def test_bad_usage_is_one_line_that_names_the_manual(
    capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    assert main(["token", *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dsqlproxy: ")
    assert line.endswith("; see dsqlproxy token --help")


def test_every_problem_of_a_file_is_a_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text("listeners: [{cluster: x, listen: y}]\n")
    assert main(["token", "--config", str(file)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("]")[0] for line in lines] == [
        f"dsqlproxy: {file}: listeners[0"
    ] * 2


def test_a_problem_of_a_flag_or_variable_is_not_one_of_the_file(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text(f"listeners: [{{cluster: {CLUSTER}}}]\ndrain_delay: x\n")
    monkeypatch.setenv("DSQLPROXY_LOG_LEVEL", "inf")
    assert main(["token", "--config", str(file), "--region", "x"]) == 2
    lines = sorted(capsys.readouterr().err.splitlines())
    starts = ("--region: ", f"{file}: drain_delay: ", "DSQLPROXY_LOG_LEVEL: ")
    assert len(lines) == 3
    for line, start in zip(lines, sorted(starts), strict=True):
        assert line.startswith(f"dsqlproxy: {start}")


def test_a_file_that_cannot_be_read_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["token", "--config", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"dsqlproxy: {tmp_path}: the file cannot be read (is a directory)"


def test_without_any_configuration_both_ways_are_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DSQLPROXY_CONFIG", raising=False)
    assert main(["token"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--config proxy.yaml" in line
    assert "--cluster <26 characters>" in line


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (ConfigError(["a: b"]), 2, ["dsqlproxy: a: b"]),
        (DsqlProxyError("a\nb"), 1, ["dsqlproxy: a b"]),
        (
            TokenError("message", detail="detail", hint="hint"),
            1,
            ["dsqlproxy: message", "dsqlproxy: detail", "dsqlproxy: hint"],
        ),
        (KeyboardInterrupt(), 130, []),
    ],
    ids=repr,
)
def test_an_ending_has_an_exit_code_and_its_lines(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    lines: list[str],
) -> None:
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setattr(cli, "_run_command", fail)
    assert main([]) == code
    assert capsys.readouterr().err.splitlines() == lines


def test_a_reader_who_goes_away_early_is_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "dsqlproxy", "schema"],
            stdout=writing,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(writing)
    assert (ended.returncode, ended.stderr) == (1, b"")


STREAMS = """
import os, sys
from dsqlproxy import cli
cli._run = lambda _: 7
code = cli.main([])
assert [stream.fileno() for stream in (sys.stdin, sys.stdout, sys.stderr)] == [0, 1, 2]
assert all(map(os.get_inheritable, (0, 1, 2)))
print("out:", repr(sys.stdin.read()))
print("err:", file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize(
    ("closed", "out", "err"),
    [
        ("", "out: 'said'\n", "err:\n"),
        ("<&-", "out: ''\n", "err:\n"),
        (">&-", "", "err:\n"),
        ("2>&-", "out: 'said'\n", ""),
        ("<&- 2>&-", "out: ''\n", ""),
        ("<&- >&- 2>&-", "", ""),
    ],
)
def test_a_stream_that_was_closed_is_the_null_device(
    closed: str, out: str, err: str
) -> None:
    # An event loop took the number of one, and a command or the end closed it.
    ended = subprocess.run(  # noqa: S603 - a shell, for what only it can do
        ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", STREAMS],
        input="said",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (7, out, err)


def test_the_module_is_the_command() -> None:
    ended = python("-m", "dsqlproxy", "--version")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == f"dsqlproxy {__version__}\n"


@pytest.mark.parametrize(
    "argv", [["--version"], ["--help"], ["token", "--help"]], ids=repr
)
def test_small_commands_leave_the_heavy_imports_alone(argv: list[str]) -> None:
    ended = python(
        "-c",
        "import sys\n"
        "from dsqlproxy.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "heavy = {'boto3', 'botocore', 'uvloop', 'pydantic', 'asyncio', 'yaml'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)))",
        *argv,
    )
    assert ended.stderr.strip() == ""


def test_every_flag_of_a_key_is_known_to_the_configuration() -> None:
    assert {*options.CLUSTER_FLAGS, *options.PROXY_FLAGS} == FLAGS.keys()


def test_flags_lead_to_a_configuration() -> None:
    parser = cli._Parser(prog="x")
    options.add_config_arguments(parser)
    options.add_process_arguments(parser)
    args = parser.parse_args(
        ["--cluster", CLUSTER, "--role", "admin", "--drain-delay", "1s"]
    )
    config = options.load(args, environ={}).config
    assert config.listeners[0].role == "admin"
    assert config.drain_delay == 1.0
    assert (args.ready_file, args.event_loop) == (None, None)
